"""What each task makes of a table's columns: the guesses that `peftlab init` chooses from."""
