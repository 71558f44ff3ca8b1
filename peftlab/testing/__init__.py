"""What a plugin must keep, as tests that its author inherits; peftlab's own plugins pass the same ones.

Nothing here imports pytest, which collects the classes where they are inherited. Names are imported when they are first
used, for torch comes with them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
