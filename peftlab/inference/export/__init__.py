"""Exports of runs, each checked against its run before it counts."""
