"""Applications are read, built, judged and served here, whatever they are."""
