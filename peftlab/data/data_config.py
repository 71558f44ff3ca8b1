"""The ``data`` section of a recipe."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializeAsAny,
    Tag,
    field_validator,
    model_validator,
)

from peftlab.core.augmentation import Augmentation
from peftlab.core.config import Config, WrongKeyError
from peftlab.core.errors import did_you_mean
from peftlab.core.seed import Seed
from peftlab.data.dialects import Dialect
from peftlab.data.given import GivenRows
from peftlab.data.pruning import Pruning

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
UNLABELED = "unlabeled"
"""Beside the splits: texts without labels."""

TableFormat = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "xlsx", "conll", "text", "yaml"]

_COMMON_ENCODINGS = ("utf-8", "utf-16", "latin-1", "cp1252", "mac-roman", "gb18030", "shift_jis", "euc-kr", "koi8-r")


READING_KEYS = (
    "format",
    "encoding",
    "delimiter",
    "quoting",
    "escape",
    "header",
    "column_names",
    "decimal",
    "sheet",
)
"""Keys that say how a file is written."""
HUB_KEYS = ("subset", "revision")
"""Keys that say which data set of the Hub is meant."""
SOURCE_KEYS = (*READING_KEYS, *HUB_KEYS, "splits")
"""Keys that hold for one source, and say nothing of another."""


Address = Annotated[str, Field(min_length=1)]


class SplitSources(Config):
    """One source per split."""

    train: Address | GivenRows = Field(description="Address of the training rows.")
    validation: Address | GivenRows | None = Field(
        None, description="Address of the validation rows. null: a part of train."
    )
    test: Address | GivenRows | None = Field(None, description="Address of the test rows. null: a part of train.")
    unlabeled: Address | GivenRows | None = Field(
        None, description="Address of texts without labels, for training.self_training. null: there are none."
    )


class Fold(Config):
    """One of several equal parts that the rows are cut into, each of them the validation split of a run of its own."""

    number: PositiveInt = Field(description="Which part it is, from 1.")
    of: int = Field(ge=2, description="How many parts there are.")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Fold:
        if self.number > self.of:
            raise ValueError(f"`number` is {self.number}, and there are {self.of}")
        return self


def _kind_of_source(value: Any) -> str:
    """Which of a source's forms is meant; an address where it is none of them."""
    if isinstance(value, GivenRows):
        return "rows"
    return "splits" if isinstance(value, Mapping | SplitSources) else "address"


class DataConfig(Config):
    """Where the rows come from, how they are read, and how they are split."""

    source: Annotated[
        Annotated[str, Tag("address")] | Annotated[SplitSources, Tag("splits")] | Annotated[GivenRows, Tag("rows")],
        Discriminator(_kind_of_source),
    ] = Field(
        description="A Hub data set's id, a file or folder, pypi:DIST==VERSION/PATH, or a mapping "
        "{train: …, validation: …, test: …} of such addresses."
    )
    format: Literal["auto"] | TableFormat = Field("auto", description="Format of the file. auto: by its ending.")
    encoding: str = Field("utf-8", description="Character encoding of text files, such as utf-8, cp1252 or mac-roman.")
    delimiter: str | None = Field(
        None,
        description="The character between the fields of a CSV or TSV file. Several characters need `quoting: "
        "false`. null: found from the first lines: comma, semicolon, tab or |.",
    )
    quoting: bool = Field(
        True, description="Whether double quotes enclose fields of a CSV or TSV file. false: they are plain characters."
    )
    escape: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="The character, such as a backslash, that makes the next quote or delimiter a plain one. null: "
        "quotes are doubled, unless the file shows otherwise.",
    )
    header: bool = Field(
        True,
        description="Whether the first row of a CSV, TSV or Excel file holds the column names. false: the columns "
        "are named column_1, column_2, ….",
    )
    column_names: list[str] | None = Field(
        None, min_length=1, description="Names of the columns, for files that have no header."
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="The decimal sign in columns of numbers. null: found from the column.",
    )
    sheet: str | None = Field(None, min_length=1, description="The sheet of an Excel workbook that has several.")
    subset: str | None = Field(
        None, min_length=1, description="The configuration of a Hub data set, such as sst2 of GLUE."
    )
    revision: str | None = Field(None, min_length=1, description="Commit, tag or branch of a Hub data set.")
    splits: dict[SplitName, str] | None = Field(
        None,
        min_length=1,
        description="The source's names of the splits, such as {train: train, test: dev}. null: the usual names.",
    )
    drop_missing: bool = Field(
        False, description="Leave out rows without a text or label, and count them. false: such rows are an error."
    )
    deduplicate: bool = Field(
        True, description="Keep one of several rows with the same text. No text is then in two splits."
    )
    test_fraction: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of the rows for the test split, if the source has none.",
    )
    validation_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the rest for the validation split, if the source has none.",
    )
    fold: Fold | None = Field(
        None,
        description="Cross-validation: `{number: 1, of: 5}` validates on the first fifth of the rows that are no test "
        "rows, and trains on the others; with one seed the parts share no row. null: as validation_fraction says.",
    )
    split_seed: Seed | None = Field(None, description="Seed of the splits. null: the recipe's seed.")
    train_rows: list[NonNegativeInt] | None = Field(
        None,
        min_length=1,
        description="Numbers of the rows to train on, from 0, as the source of the training split counts them; the "
        "other training rows are left out. null: all.",
    )
    max_train_examples: PositiveInt | None = Field(
        None,
        description="The most rows to train on, drawn by the seed. A smaller number draws a part of the same rows.",
    )
    max_train_examples_per_class: PositiveInt | None = Field(
        None, description="The most rows of each class to train on, drawn by the seed: 8 makes an 8-shot recipe."
    )
    draw_seed: Seed | None = Field(
        None,
        description="Seed of the training rows that are drawn where there are more than wanted. Another one draws "
        "others, of the same splits. null: as the splits.",
    )
    augmentation: list[SerializeAsAny[Augmentation]] = Field(
        default_factory=list,
        description="Changed copies of the training rows to learn beside them: a list of mappings with a `type`. "
        "`peftlab ls augmentations` lists the types.",
    )
    prune: Pruning | None = Field(
        None,
        description="Leave training rows out whose labels look wrong to models that have not learned them. null: all "
        "are learned from.",
    )
    max_unlabeled_examples: PositiveInt | None = Field(
        None, description="The most texts without labels to learn from, drawn by the seed."
    )
    max_validation_examples: PositiveInt | None = Field(None, description="The most rows to validate on.")
    max_test_examples: PositiveInt | None = Field(None, description="The most rows to test on.")

    @field_validator("source")
    @classmethod
    def _source_is_not_empty(cls, value: str | SplitSources | GivenRows) -> str | SplitSources | GivenRows:
        if isinstance(value, str) and not value.strip():
            raise ValueError("an address is needed, such as a file, a Hub id or pypi:DIST==VERSION/PATH")
        return value

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, value: str) -> str:
        try:
            known = getattr(codecs.lookup(value), "_is_text_encoding", True)
        except (LookupError, ValueError):
            known = False
        if not known:
            raise ValueError(f"unknown encoding `{value}`. {did_you_mean(value, _COMMON_ENCODINGS)}")
        return value

    @field_validator("delimiter")
    @classmethod
    def _delimiter_can_delimit(cls, value: str | None) -> str | None:
        if value is not None and (not value or set(value) & set('"\r\n\0')):
            raise ValueError(f"a character such as ';' or \"\\t\" is needed, not {value!r}")
        return value

    @field_validator("escape")
    @classmethod
    def _escape_can_escape(cls, value: str | None) -> str | None:
        if value is not None and (value.isalnum() or value.isspace() or value in '"\0'):
            raise ValueError(f"a character such as '\\' is needed, not {value!r}")
        return value

    @field_validator("column_names")
    @classmethod
    def _column_names_differ(cls, value: list[str] | None) -> list[str] | None:
        twice = sorted({name for name in value or [] if (value or []).count(name) > 1})
        if twice:
            raise ValueError(f"the name `{twice[0]}` is given twice")
        return value

    @field_validator("train_rows")
    @classmethod
    def _train_rows_differ(cls, value: list[int] | None) -> list[int] | None:
        twice = sorted(row for row, count in Counter(value or []).items() if count > 1)
        if twice:
            raise ValueError(f"row {twice[0]} is named twice")
        return value

    @model_validator(mode="after")
    def _long_delimiters_go_without_quotes(self) -> DataConfig:
        if self.delimiter is not None and len(self.delimiter) > 1 and self.quoting:
            raise ValueError("one character is needed as `delimiter`; for several, set `quoting: false`")
        return self

    @model_validator(mode="after")
    def _something_is_drawn(self) -> DataConfig:
        if self.draw_seed is not None and self.max_train_examples is None and self.max_train_examples_per_class is None:
            raise WrongKeyError(
                ("draw_seed",),
                "it is the seed of the training rows that are drawn, and all are taken",
                "Leave it out, or set `max_train_examples` or `…_per_class` beside it.",
            )
        return self

    @model_validator(mode="after")
    def _splits_have_one_source(self) -> DataConfig:
        if self.splits is not None and isinstance(self.source, SplitSources):
            raise ValueError("`splits` names the parts of one source; here `source` already says where each split is")
        if self.splits is not None and "train" not in self.splits:
            raise ValueError("`splits` must say what the source calls `train`")
        return self

    @property
    def dialect(self) -> Dialect:
        """How delimited files and sheets are written, as far as it is said."""
        names = None if self.column_names is None else tuple(self.column_names)
        return Dialect(self.delimiter, self.quoting, self.escape, self.header, names)
