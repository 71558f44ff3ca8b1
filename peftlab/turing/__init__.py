"""Turing machines: an exact simulator, named and random machines, and how they are written down. Never imports torch."""
