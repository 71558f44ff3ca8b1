"""peftlab: parameter-efficient fine-tuning that measures what it claims.

The public Python API is what ``__init__.pyi`` lists. Names are imported when they are first used, so that ``import
peftlab`` stays cheap.
"""

import lazy_loader

_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """A public name, or the version: to look that up takes as long as the rest of ``--help``'s own imports."""
    if name == "__version__":
        from importlib.metadata import version

        return version("peftlab")
    return _find(name)
