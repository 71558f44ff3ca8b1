"""Suites: many recipes compared with an equal tuning budget."""
