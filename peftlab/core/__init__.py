"""What all other packages stand on."""
