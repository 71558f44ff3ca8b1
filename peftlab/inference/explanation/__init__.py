"""Which tokens carried a decision."""
