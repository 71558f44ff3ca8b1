"""The tuning methods, one file each. A new file that registers its class is found without being listed anywhere."""

from peftlab.core.method import METHODS, Method

__all__ = ["METHODS", "Method"]
