"""Statistics of repeated runs: intervals, paired comparisons, groups."""
