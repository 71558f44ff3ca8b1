"""Turing machines: an exact simulator, named and random machines, and their notation. Never imports torch."""
