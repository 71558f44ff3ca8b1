"""The recipes that come with peftlab, by name: a wheel carries them, a checkout has them in ``recipes/``."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT, _WHEEL = _PACKAGE.parent / "recipes", _PACKAGE / "shipped_recipes"


def shipped_recipes() -> dict[str, Path]:
    """Every recipe's file by its name, such as ``tweet_sentiment/minilm_lora``."""
    folder = _CHECKOUT if (_CHECKOUT.parent / "pyproject.toml").is_file() else _WHEEL
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_recipe(name: Path | str) -> Path:
    """A recipe's file: the path itself where something is there, else the shipped recipe of that name."""
    path = Path(name)
    if path.exists():
        return path
    text = path.as_posix().removeprefix("recipes/").removesuffix(".yaml")
    return shipped_recipes().get(text, path)
