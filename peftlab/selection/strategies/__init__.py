"""One file per selection strategy."""
