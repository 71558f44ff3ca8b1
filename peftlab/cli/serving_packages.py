"""Whether what pages need is installed."""

from __future__ import annotations

import importlib.util

from peftlab.core.errors import UserError

PACKAGES = ("fastapi", "uvicorn")


def check_serving_packages(what: str) -> None:
    """Refuse to begin without them.

    Raises:
        UserError: Naming what is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{what} needs {', '.join(missing)}", hint="pip install 'peftlab[serve]'")
