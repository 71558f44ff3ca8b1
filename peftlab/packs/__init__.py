"""Packs: a suite's folder as a few small files, to be committed and shared."""
