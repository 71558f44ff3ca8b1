"""Using what was tuned: predictions on new texts, and scores on new data."""
