"""Running a record again, and judging whether it agrees."""
