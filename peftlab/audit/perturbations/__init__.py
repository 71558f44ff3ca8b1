"""Changes of texts under which a model is asked again: a file each."""
