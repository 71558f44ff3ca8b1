"""The steps of the check: a module each, run by ``python -m benchmarks.gpu.steps.NAME SETTINGS``."""
