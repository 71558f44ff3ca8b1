"""How long tests wait for what is to come."""

PATIENCE = 600.0
"""Seconds: only what hangs takes so long, however busy the machine is."""
