"""One run from recipe to record, and its folder."""
