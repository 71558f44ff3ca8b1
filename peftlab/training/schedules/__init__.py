"""Learning-rate schedules: what comes after the warm-up."""
