"""A local page over runs: those that go on, and those that are done."""
