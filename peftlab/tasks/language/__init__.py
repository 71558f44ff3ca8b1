"""What the tasks of language models share."""
