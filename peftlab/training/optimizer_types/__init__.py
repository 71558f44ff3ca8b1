"""Optimizers that recipes can name: a file for each library."""
