"""Prompts as classifiers: what a language model would write in the place of the label."""
