"""A recipe for a table that nobody has described: what `peftlab init` writes."""
