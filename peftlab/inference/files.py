"""How a new file is read: as the recipe reads its own data, but for what each file has of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peftlab.core.config import Document, build_config, parse_yaml_value
from peftlab.core.errors import ConfigError, DataError, did_you_mean
from peftlab.data.data_config import READING_KEYS, DataConfig
from peftlab.data.dialects import DELIMITERS
from peftlab.data.used_keys import formats_of, refuse_useless
from peftlab.recipe.schema import Recipe

LEAVE = "Leave it out."
_OPTIONS = "--format, --encoding, --read"
_LIKE_TRAINING = ("quoting", "escape", "header", "column_names", "decimal")


def reading_config(recipe: Recipe, file_format: str | None, encoding: str, settings: Sequence[str] = ()) -> DataConfig:
    """The recipe's ``data`` section for another file.

    Quoting, header, column names and decimals are the recipe's. The encoding is not: a file of today is UTF-8 unless
    it is said otherwise, and an encoding that can read anything would garble it without a word. The delimiter is found
    out where it can be.

    Args:
        recipe: Of the run.
        file_format: As ``data.format``; None: the ending tells.
        encoding: As ``data.encoding``.
        settings: ``KEY=VALUE`` each, of the keys of ``data`` that say how a file is written; they go first.

    Raises:
        ConfigError: There is no such format, encoding or key.
    """
    own = recipe.data
    values: dict[str, Any] = {"source": "data", "format": file_format or "auto", "encoding": encoding}
    if own is not None:
        values |= {key: getattr(own, key) for key in _LIKE_TRAINING}
        values["delimiter"] = None if own.delimiter in DELIMITERS else own.delimiter
    values |= dict(map(_setting, settings))
    return build_config(DataConfig, values, document=Document(source=_OPTIONS, values=values))


def refuse_unread(
    paths: Sequence[Path],
    config: DataConfig,
    file_format: str | None,
    settings: Sequence[str],
    *,
    has_numbers: bool,
) -> None:
    """Refuse options that say nothing of any file that is read: who gives them believes that they have an effect.

    Args:
        paths: Files, or folders; one that is not there is told by who reads it.
        config: Made of the options, by :func:`reading_config`.
        file_format: As the option has it.
        settings: As for :func:`reading_config`.
        has_numbers: Whether a column of numbers is read.

    Raises:
        ConfigError: With the first such option.
    """
    given = {_setting(text)[0]: "--read" for text in settings}
    if "decimal" in given and not has_numbers:
        raise ConfigError(
            "this is for columns of numbers, and none is read: it has no effect", where="--read decimal", hint=LEAVE
        )
    if file_format is not None:
        given["format"] = "--format"
    if config.encoding != DataConfig.model_fields["encoding"].default:
        given.setdefault("encoding", "--encoding")
    if not given or not all(path.exists() for path in paths):
        return
    with options_in_hints():
        each = [formats_of(path, config) for path in paths]
    known = [formats for formats in each if formats is not None]
    if len(known) == len(paths):
        for key, option in given.items():
            where = f"--read {key}" if option == "--read" else option
            what = paths[0].name if len(paths) == 1 else "what is read"
            refuse_useless(key, frozenset[str]().union(*known), what=what, where=where)


def refuse_options_without_file(
    file_format: str | None, encoding: str | None, settings: Sequence[str], *, by: str = "--input"
) -> None:
    """Refuse options for files where none is read.

    Args:
        file_format: As the option has it.
        encoding: As the option has it; None: it counts.
        settings: As for :func:`reading_config`.
        by: The option that a file is given by.

    Raises:
        ConfigError: There is one.
    """
    usual = DataConfig.model_fields["encoding"].default
    for option, is_given in (
        ("--format", file_format is not None),
        ("--encoding", encoding not in (None, usual)),
        ("--read", bool(settings)),
    ):
        if is_given:
            raise ConfigError(
                "this says how a table is written, and there is none: it has no effect",
                where=option,
                hint=f"Leave it out, or give a table by {by}.",
            )


@contextmanager
def options_in_hints(*, has_options: bool = True) -> Iterator[None]:
    """Errors about a new file name the option that mends them: there is no recipe to write a key into.

    Args:
        has_options: A verb has them, a program has none.
    """
    try:
        yield
    except DataError as error:
        if error.hint is not None:
            error.hint = _as_options(error.hint, has_options)
        raise


def _as_options(hint: str, has_options: bool) -> str:
    if re.search(r"\btask\.\w", hint):
        return "The run reads rows as its recipe says: mend these rows, or leave them out."
    named = set(re.findall(r"`data\.(\w+)", hint))
    if named - set(READING_KEYS):
        return "Fill these rows, or leave them out."
    if named and not has_options:
        return "Read the file by a library such as pandas, and give its rows."
    return re.sub(r"`data\.(\w+)(?:: ([^`]*))?`", lambda key: f"`--read {_quoted(key[1], key[2])}`", hint)


def _quoted(key: str, value: str | None) -> str:
    setting = f"{key}={value or '…'}"
    return setting if re.fullmatch(r"[\w=.…-]+", setting) else f"'{setting}'"


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"`{text}` is not of the form KEY=VALUE", where="--read", hint="As in --read delimiter=';'.")
    if key not in READING_KEYS:
        raise ConfigError(f"unknown key `{key}`", where="--read", hint=did_you_mean(key, READING_KEYS))
    # A lone mark, such as ; or |, is no YAML value; it is meant as it stands.
    return key, value if len(value) == 1 and not value.isalnum() else parse_yaml_value(value)
