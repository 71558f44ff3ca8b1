"""Opinion monitoring."""

from peftlab.applications.monitor.application import Monitor

__all__ = ["Monitor"]
