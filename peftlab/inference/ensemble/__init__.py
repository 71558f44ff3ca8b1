"""Several runs as one: the mean of their answers, or of their weights."""
