"""Active learning: which texts of a pool should be given labels next."""
