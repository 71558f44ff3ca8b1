"""YAML with line numbers, and strict sections."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from peftlab.core.config import Config, WrongKeyError, build_config, parse_yaml, parse_yaml_value, read_yaml
from peftlab.core.errors import ConfigError


class Inner(Config):
    rank: int = Field(8, gt=0)


class Outer(Config):
    inner: Inner = Inner()
    rate: float = 0.1
    names: str | list[str] = "a"
    kind: Literal["square"] = Field("square", description="Nothing else is built yet.")
    limit: float = 1.0

    @model_validator(mode="after")
    def _limit_fits(self) -> Outer:
        if self.limit < self.rate:
            raise WrongKeyError(("limit",), "it is below the rate", "Raise it.")
        return self


def test_yaml_is_version_1_2() -> None:
    document = parse_yaml("a: 5e-4\nb: no\nc: 0o17\nd: 12:30\n", source="x.yaml")
    assert document.values == {"a": 5e-4, "b": "no", "c": 15, "d": "12:30"}


def test_a_date_stays_a_word() -> None:
    assert parse_yaml("a: 2026-01-01", source="x").values == {"a": "2026-01-01"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2", 2),
        ("a:\n  b: [", 2),
        ("a: 1\nb: !!python/object:os.system x", 2),
        ("a: !!set {x}", 1),
        ('a: 1\nb: "\\ud83d x"', 2),
        ('"\\ude00": 1', 1),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"^x\.yaml:{line}: not YAML") as caught:
        parse_yaml(text, source="x.yaml")
    assert caught.value.exit_code == 2


def test_aliases_of_aliases_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftlab.core.document.MOST_VALUES", 1000)
    bomb = "".join(f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in pairwise("abcdefghi"))
    with pytest.raises(ConfigError, match="more than 1,000 values"):
        parse_yaml(f"a: &a [x]\n{bomb}", source="x.yaml")


@pytest.mark.parametrize("text", ["", "- 1", "3", "&a [*a]", "a: &x {b: *x}", "\x00"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_yaml(text, source="x.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inner:\n  rnak: 4\n", "x.yaml:2: inner.rnak: unknown key\n  Did you mean `rank`?"),
        ("inner:\n  rank: 0\n", "x.yaml:2: inner.rank: should be greater than 0"),
        ("rate: fast\n", "x.yaml:1: rate: should be a valid number, not 'fast'"),
        ("rate: .nan\n", "x.yaml:1: rate: should be a finite number"),
        ("rate: true\n", "x.yaml:1: rate: should be a valid number, not True"),
        ("names: 3\n", "x.yaml:1: names: should be a valid string, not 3, or should be a valid list, not 3"),
        ("names: [a, 3]\n", "names.1: should be a valid string, not 3"),
        ("kind: round\n", "x.yaml:1: kind: should be 'square', not 'round'\n  Nothing else is built yet."),
        ("rate: 3\nlimit: 2\n", "x.yaml:2: limit: it is below the rate\n  Raise it."),
        ("inner: 5\n", "x.yaml:1: inner: a mapping of keys to values is needed, not 5"),
    ],
)
def test_a_mistake_is_told_with_line_key_and_way_out(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(Outer, parse_yaml(text, source="x.yaml").values, document=parse_yaml(text, source="x.yaml"))
    assert expected in str(caught.value)


def test_several_mistakes_are_told_at_once() -> None:
    document = parse_yaml("rate: x\ninner:\n  rank: -1\n", source="x.yaml")
    with pytest.raises(ConfigError) as caught:
        build_config(Outer, document.values, document=document)
    assert "x.yaml:1: rate" in str(caught.value)
    assert "x.yaml:3: inner.rank" in str(caught.value)


def test_missing_files_suggest_their_neighbours(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"Did you mean `quickstart\.yaml`"):
        read_yaml(tmp_path / "quikstart.yaml")
    with pytest.raises(ConfigError, match="folder"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="offset 3"):
        read_yaml(tmp_path / "latin.yaml")


text = st.text(max_size=8)  # JSON writes an emoji as a pair of escapes
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-1e6, 1e6) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(text, plain, min_size=1, max_size=4))
@example({"😀": "a😀"})
def test_json_is_yaml(values: dict[str, object]) -> None:
    assert parse_yaml(json.dumps(values), source="x").values == values


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        document = parse_yaml(text, source="x")
    except ConfigError as error:
        assert error.where is not None
        assert error.where.startswith("x")
    else:
        assert isinstance(document.values, dict)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("5e-4", 5e-4), ("[query, value]", ["query", "value"]), ("{a: 1}", {"a": 1}), ("", None)],
)
def test_values_of_set_are_yaml(text: str, value: object) -> None:
    assert parse_yaml_value(text) == value
