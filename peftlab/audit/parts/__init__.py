"""The parts of an audit: a file each."""
