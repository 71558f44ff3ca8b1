"""peftlab: parameter-efficient fine-tuning that measures what it claims."""

from importlib.metadata import version

__version__ = version("peftlab")
