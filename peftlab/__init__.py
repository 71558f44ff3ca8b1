"""peftlab: parameter-efficient fine-tuning that measures what it claims.

The public Python API is what ``__init__.pyi`` lists. Names are imported when they are first used, so that ``import
peftlab`` stays cheap.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("peftlab")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
