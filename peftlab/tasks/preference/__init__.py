"""Preferences: how their rows are read, and the losses that are taken on them."""
