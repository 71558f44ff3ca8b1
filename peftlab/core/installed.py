"""Which packages are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from peftlab.core.errors import UserError

CAPTUM = ("captum",)
PAGES = ("fastapi", "uvicorn")


def installed_version(package: str) -> str | None:
    """The version of a package, by its name on PyPI; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_installed(packages: Sequence[str], needs: str, *, extra: str) -> None:
    """Refuse to begin without them.

    Args:
        packages: As they are imported.
        needs: Who needs them, such as ``serving needs``.
        extra: Of peftlab, that brings them.

    Raises:
        UserError: Naming what is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{needs} {', '.join(missing)}", hint=f"pip install 'peftlab[{extra}]'")
