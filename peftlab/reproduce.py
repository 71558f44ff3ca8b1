"""``peftlab reproduce``: run a record again and say, figure by figure, whether it agrees."""
