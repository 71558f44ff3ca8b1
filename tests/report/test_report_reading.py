"""What a report finds below some folders, and what it says of the rest."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes import METHODS, FakeData, fake_record, write_run, write_suite

from peftlab.core.config import read_yaml
from peftlab.core.errors import UserError
from peftlab.core.record import Guard, read_record, write_record
from peftlab.report.csv_file import render_csv
from peftlab.report.document import Report, build_report, report_json
from peftlab.report.evidence import share_draws
from peftlab.report.headlines import headline
from peftlab.report.markdown import render_markdown
from peftlab.report.notices import comparison_notices
from peftlab.report.page import render_html
from peftlab.report.report_tables import status_table, tied_with_best

FULL, LORA, ADALORA, *_ = METHODS
DATA = FakeData(200)
SCORES = {"test": {"accuracy": 0.7}}


def reasons(report: Report) -> dict[str, str]:
    return {Path(item.path).name: item.reason for item in report.excluded}


def notices(report: Report) -> str:
    return " ".join(notice.text for notice in report.notices)


def comparison_notes(report: Report) -> str:
    return " ".join(notice.text for notice in comparison_notices(report.comparisons[0]))


def test_a_suite_is_read_whole(suite: Path) -> None:
    report = build_report([suite])
    assert [len(method.scores) for method in report.comparisons[0].methods] == [3] * 11
    assert not report.excluded
    assert report.title == "tweet-sentiment"
    assert "every method got 4 trials" in notices(report)
    assert "added 4.5 s to each run" in notices(report)


def test_the_same_run_is_counted_once(suite: Path) -> None:
    once, twice = build_report([suite]), build_report([suite, suite / "cells", suite / "cells" / "lora--seed0"])
    assert len(twice.entries) == len(once.entries) == 33


def test_trials_of_the_tuning_are_no_results(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], examples=200)
    write_run(folder / "tuning" / "lora" / "trial0", LORA, 0, DATA, name="trial")
    assert {entry.name for entry in build_report([folder]).entries} == {"full", "lora"}


def test_statuses_are_listed_and_not_compared(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA, ADALORA], examples=200)
    cells = folder / "cells"
    record = fake_record(LORA, 1, {}, status="out_of_memory", error="it needs 20 GB")
    write_record(record, cells / "lora--seed1")
    (cells / "lora--seed2" / "record.json").unlink()
    shutil.rmtree(cells / "adalora--seed0")
    report = build_report([folder])
    methods = {method.name: method.seeds for method in report.comparisons[0].methods}
    assert methods == {"full": [0, 1, 2], "lora": [0], "adalora": [1, 2]}
    assert reasons(report)["lora--seed1"] == "status out_of_memory: it needs 20 GB"
    assert "has not finished" in reasons(report)["lora--seed2"]
    missing = "have no result: 1 out of memory, 1 not finished and 1 not run."
    assert f"3 of 9 planned runs of the suite tweet-sentiment {missing}" in notices(report)
    rows = {str(row[0]): [str(cell) for cell in row[1:]] for row in status_table(report.suites[0], report.found).rows}
    assert rows == {
        "full": ["success"] * 3,
        "lora": ["success", "out of memory", "not finished"],
        "adalora": ["not run", "success", "success"],
    }


def test_records_that_cannot_be_read_are_named_with_the_reason(tmp_path: Path) -> None:
    for number, name in enumerate(("whole", "cut", "old", "strange")):
        write_run(tmp_path / name, LORA, number, DATA)
    text = (tmp_path / "cut" / "record.json").read_text()
    (tmp_path / "cut" / "record.json").write_text(text[: len(text) // 2])
    (tmp_path / "old" / "record.json").write_text(text.replace('"schema_version": 1', '"schema_version": 7'))
    (tmp_path / "strange" / "record.json").write_text("[1, 2]")
    report = build_report([tmp_path])
    assert len(report.entries) == 1
    found = reasons(report)
    assert "damaged" in found["cut"]
    assert "schema version 7" in found["old"]
    assert "schema version None" in found["strange"]


def test_nothing_that_can_be_read_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        build_report([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no readable record"):
        build_report([tmp_path])
    write_run(tmp_path / "run", LORA, 0, DATA)
    (tmp_path / "run" / "record.json").write_text("{")
    with pytest.raises(UserError, match=r"run: the record is damaged"):
        build_report([tmp_path])


def test_other_data_is_another_comparison(tmp_path: Path) -> None:
    write_run(tmp_path / "a", LORA, 0, DATA)
    write_run(tmp_path / "b", FULL, 0, DATA)
    write_run(tmp_path / "c", ADALORA, 0, DATA, fingerprint="cd" * 32)
    report = build_report([tmp_path])
    assert [[method.name for method in c.methods] for c in report.comparisons] == [["full", "lora"], ["adalora"]]
    assert len({comparison.title for comparison in report.comparisons}) == 2
    assert all(len({"adalora", "lora"} & set(group)) < 2 for group in report_json(report)["groups"])


def test_seeds_that_cut_their_own_splits_are_pointed_out(tmp_path: Path) -> None:
    for seed in (0, 1):
        record = fake_record(LORA, seed, SCORES, fingerprint=f"{seed:064d}")
        recipe = {**record.recipe, "data": {**record.recipe["data"], "split_seed": None}}
        (tmp_path / str(seed)).mkdir()
        write_record(record.model_copy(update={"recipe": recipe}), tmp_path / str(seed))
    report = build_report([tmp_path])
    assert len(report.comparisons) == 2
    assert "Set data.split_seed" in notices(report)


def test_failed_guards_are_not_compared_and_waived_ones_are_mentioned(tmp_path: Path) -> None:
    failed = Guard(status="failed", detail="two tensors stand still")
    waived = Guard(status="failed", detail="two tensors stand still", waived=True)
    write_run(tmp_path / "good", FULL, 0, DATA)
    write_run(tmp_path / "bad", LORA, 0, DATA, guards={"adapter_changed": failed})
    write_run(tmp_path / "waived", ADALORA, 0, DATA, guards={"adapter_changed": waived})
    report = build_report([tmp_path])
    assert "adapter_changed (two tensors stand still)" in reasons(report)["bad"]
    assert [method.name for method in report.comparisons[0].methods] == ["full", "adalora"]
    texts = report_json(report)["comparisons"][0]["notices"]
    assert any("adalora seed 0 (adapter_changed)" in text for text in texts)


def test_a_run_that_has_collapsed_is_no_success_and_still_counts_for_its_method(tmp_path: Path) -> None:
    """Left out, it would let a method look as good as those of its seeds that went well."""
    collapsed = Guard(status="failed", detail="one answer to all")
    write_run(tmp_path / "0", FULL, 0, DATA)
    write_run(tmp_path / "1", FULL, 1, DATA, status="failed", guards={"answers_vary": collapsed})
    both = {"answers_vary": collapsed, "loss_finite": Guard(status="failed", detail="not finite")}
    write_run(tmp_path / "2", FULL, 2, DATA, status="failed", guards=both)
    report = build_report([tmp_path])
    (method,) = report.comparisons[0].methods
    assert method.seeds == [0, 1]
    assert list(reasons(report)) == ["2"]


def test_of_equal_runs_the_latest_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "new", LORA, 0, DATA, started_at="2026-11-25T00:00:00+00:00")
    write_run(tmp_path / "old", LORA, 0, DATA, started_at="2026-11-24T00:00:00+00:00")
    report = build_report([tmp_path])
    assert [entry.path.name for entry in report.comparisons[0].entries] == ["new"]
    assert "a later run" in reasons(report)["old"]


def test_runs_of_one_name_and_other_settings_are_told_apart(tmp_path: Path) -> None:
    from dataclasses import replace

    for rank in (4, 8):
        write_run(tmp_path / str(rank), replace(LORA, accuracy=0.7 + rank / 100, settings={"rank": rank}), 0, DATA)
    report = build_report([tmp_path])
    assert [method.name for method in report.comparisons[0].methods] == ["lora (rank 8)", "lora (rank 4)"]


def test_a_key_that_an_older_record_lacks_is_as_good_as_null(tmp_path: Path) -> None:
    from dataclasses import replace

    write_run(tmp_path / "old", LORA, 0, DATA)
    write_run(tmp_path / "new", replace(LORA, settings={**LORA.settings, "added_since": None}), 1, DATA)
    (method,) = build_report([tmp_path]).comparisons[0].methods
    assert (method.name, len(method.entries)) == ("lora", 2)


def test_a_record_that_contradicts_its_predictions_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "good", FULL, 0, DATA)
    folder = write_run(tmp_path / "better", LORA, 0, DATA)
    record = json.loads((folder / "record.json").read_text())
    record["scores"]["test"]["accuracy"] = 0.99
    (folder / "record.json").write_text(json.dumps(record))
    assert "the record says accuracy 0.99" in reasons(build_report([tmp_path]))["better"]


def test_a_run_that_is_left_out_is_nothing_to_hold_others_against(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", FULL, 0, FakeData(200, seed=1))
    record = json.loads((folder / "record.json").read_text())
    record["scores"]["test"]["accuracy"] = 0.99
    (folder / "record.json").write_text(json.dumps(record))
    write_run(tmp_path / "b", LORA, 0, DATA)
    write_run(tmp_path / "c", LORA, 1, DATA)
    report = build_report([tmp_path])
    assert list(reasons(report)) == ["a"]
    assert [len(method.entries) for method in report.comparisons[0].methods] == [2]


def test_a_method_that_no_test_compares_is_not_said_to_be_alike(tmp_path: Path) -> None:
    """One seed, and a metric without a unit for how far seeds lie apart."""
    for name, errors in {"one": [0.5], "two": [0.2, 0.21, 0.22], "three": [0.9, 0.91, 0.92]}.items():
        for seed, error in enumerate(errors):
            scores = {"test": {"mean_squared_error": error}}
            folder = tmp_path / f"{name}-{seed}"
            folder.mkdir()
            write_record(fake_record(LORA, seed, scores, name=name), folder)
    (comparison,) = build_report([tmp_path], metric="mean_squared_error").comparisons
    assert headline(comparison).endswith("Every other one is worse. No test compares one with two.")
    assert headline(comparison).startswith("two is the best of 2 methods")
    assert [method.name for method in tied_with_best(comparison)] == ["two"]


def test_predictions_of_other_examples_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", FULL, 0, DATA)
    write_run(tmp_path / "b", LORA, 0, FakeData(200, seed=1))
    assert "other examples" in reasons(build_report([tmp_path]))["b"]


def test_damaged_predictions_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", FULL, 0, DATA)
    write_run(tmp_path / "b", LORA, 0, DATA)
    (tmp_path / "b" / "predictions.parquet").write_bytes(b"PAR1 and no more")
    assert "the predictions are damaged" in reasons(build_report([tmp_path]))["b"]


def test_tuning_that_is_off_is_said_at_the_top(tmp_path: Path) -> None:
    off = build_report([write_suite(tmp_path / "suite", [FULL, LORA], examples=200, tuning=False)])
    assert off.notices[0].warning
    assert off.notices[0].text.startswith("Tuning is off in the suite tweet-sentiment")
    write_run(tmp_path / "loose" / "a", LORA, 0, DATA)
    write_run(tmp_path / "loose" / "b", FULL, 0, DATA)
    loose = build_report([tmp_path / "loose"])
    assert loose.notices[0].text.startswith("These records are no suite")


def _change_data(folder: Path, **changes: Any) -> None:
    """Put keys into the section `data` of each cell's recipe; a callable gets the seed."""
    for path in folder.glob("cells/*/record.json"):
        record = read_record(path)
        values = {k: v(record.recipe["seed"]) if callable(v) else v for k, v in changes.items()}
        recipe = {**record.recipe, "data": {**record.recipe["data"], **values}}
        write_record(record.model_copy(update={"recipe": recipe}), path.parent)


def test_the_report_says_whether_seeds_share_their_training_rows(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], examples=200)
    assert "the same draw of training rows" not in notices(build_report([folder])), "none are drawn"
    _change_data(folder, max_train_examples=50)
    shared = build_report([folder])
    assert "All seeds of the suite tweet-sentiment learned from the same draw" in notices(shared)
    assert not share_draws([method.entries for method in shared.comparisons[0].methods])

    _change_data(folder, draw_seed=lambda seed: seed)
    suite = json.loads((folder / "suite.yaml").read_text())
    (folder / "suite.yaml").write_text(json.dumps({**suite, "resample_train": True}))
    report = build_report([folder])
    assert "Each seed of the suite tweet-sentiment drew its own training rows" in notices(report)
    assert [method.seeds for method in report.comparisons[0].methods] == [[0, 1, 2]] * 2, "seeds are taken together"
    assert share_draws([method.entries for method in report.comparisons[0].methods]), "and compared seed by seed"
    assert "they are not compared seed by seed" not in comparison_notes(report)
    shutil.rmtree(folder / "cells" / "lora--seed1")
    report = build_report([folder])
    assert not share_draws([method.entries for method in report.comparisons[0].methods])
    assert "not all methods have the same: they are not compared seed by seed" in comparison_notes(report)


def test_a_damaged_suite_still_shows_its_cells(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], examples=200)
    (folder / "suite.yaml").write_text("methods: [")
    (folder / "tuning" / "lora.json").write_text("{}")
    (folder / "tuning" / "full.json").write_text('{"method": "full", "metric": "accuracy", "rungs": [[]]}')
    (folder / "tuning" / "other.json").write_bytes(b"\xff")
    (folder / "suite_seconds.json").write_text("{")
    report = build_report([folder])
    assert len(report.comparisons[0].methods) == 2
    assert {"suite.yaml", "lora.json", "full.json", "other.json"} <= set(reasons(report))
    assert "has not written down what it added" in notices(report)
    assert "how it was tuned, is not known" in notices(report)
    assert "Tuning is off" not in notices(report)


@pytest.mark.parametrize(
    "broken",
    [{"tuning": "yes"}, {"tuning": {"learning_rate": ["low", "high"]}}, {"published": ["x"]}, {"methods": ["lora"]}],
)
def test_a_suite_of_another_form_ends_in_no_traceback(tmp_path: Path, broken: dict[str, Any]) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], examples=60)
    values = read_yaml(folder / "suite.yaml").values
    (folder / "suite.yaml").write_text(json.dumps(values | broken))
    report = build_report([folder])
    assert len(report.comparisons[0].methods) == 2
    assert "it is no suite" in reasons(report)["suite.yaml"]


def test_the_metric_can_be_chosen(suite: Path) -> None:
    report = build_report([suite], metric="macro_f1")
    method = report.comparisons[0].methods[0]
    assert method.mean == pytest.approx(sum(e.scores["test"]["macro_f1"] for e in method.entries) / 3)
    with pytest.raises(UserError, match=r"no run has the metric `macro_f2`[\s\S]*Did you mean `macro_f1`"):
        build_report([suite], metric="macro_f2")


def test_the_report_for_programs_is_the_contract(tmp_path: Path) -> None:
    """``groups`` (lists of cell names, best first), ``methods`` (mean, interval, cost), ``excluded`` (with reasons)."""
    suite = write_suite(tmp_path / "tweets", examples=400)
    shutil.rmtree(suite / "cells" / "ia3--seed1")
    write_run(suite / "cells" / "ia3--seed1", METHODS[6], 1, DATA, status="out_of_memory", error="no memory left")
    (suite / "cells" / "bitfit--seed9").mkdir()
    write_record(fake_record(METHODS[7], 9, {}), suite / "cells" / "bitfit--seed9")
    text = json.dumps(report_json(build_report([tmp_path])))
    found = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    cells = {path.name.rpartition("--seed")[0] for path in (suite / "cells").iterdir()}
    assert set(found["methods"]) == cells == {name for group in found["groups"] for name in group}
    for method in found["methods"].values():
        assert method["interval"][0] <= method["mean"] <= method["interval"][1]
        assert set(method["cost"]) >= {"peak_memory_bytes", "tokens_per_second", "train_seconds", "artifact_bytes"}
    means = {name: method["mean"] for name, method in found["methods"].items()}
    for group in found["groups"]:
        assert [means[name] for name in group] == sorted((means[name] for name in group), reverse=True)
    firsts = [means[group[0]] for group in found["groups"]]
    assert firsts == sorted(firsts, reverse=True)
    assert {Path(item["path"]).name: item["reason"] for item in found["excluded"]} == {
        "ia3--seed1": "status out_of_memory: no memory left",
        "bitfit--seed9": "the record holds no score",
    }


def test_the_contract_holds_of_cells_of_axes(tmp_path: Path) -> None:
    for axis, fingerprint in (("small", "1" * 64), ("large", "2" * 64)):
        for method in METHODS[:3]:
            folder = tmp_path / "cells" / f"{method.name}--{axis}--seed0"
            write_run(folder, method, 0, DATA, name=f"{method.name}--{axis}", fingerprint=fingerprint)
    (tmp_path / "suite.yaml").write_text("name: s\nrecipe: r\nmethods: [{type: full}]\nseeds: [0]\n")
    found = report_json(build_report([tmp_path]))
    names = {f"{method.name}--{axis}" for axis in ("small", "large") for method in METHODS[:3]}
    assert set(found["methods"]) == names == {name for group in found["groups"] for name in group}
    assert all(len({name.partition("--")[2] for name in group}) == 1 for group in found["groups"])


def test_without_a_test_split_the_report_warns(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_record(fake_record(LORA, 0, {"validation": {"accuracy": 0.8}}), folder)
    comparison = report_json(build_report([tmp_path]))["comparisons"][0]
    assert comparison["split"] == "validation"
    assert any("no test score" in text for text in comparison["notices"])


def test_axes_of_a_suite_are_compared_apart(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    for method in (FULL, LORA):
        for axis in ("short", "long"):
            name = f"{method.name}--{axis}"
            write_run(folder / "cells" / f"{name}--seed0", method, 0, DATA, name=name)
    values = {"name": "axes", "methods": [{"type": "full"}, {"type": "lora"}], "seeds": [0], "tuning": None}
    values["axes"] = {"length": {"short": {"task.max_length": 16}, "long": {"task.max_length": 128}}}
    (folder / "suite.yaml").write_text(json.dumps(values))
    report = build_report([folder])
    assert {c.title: [m.label for m in c.methods] for c in report.comparisons} == {
        "short": ["full", "lora"],
        "long": ["full", "lora"],
    }
    assert [comparison.title for comparison in report.comparisons] == ["short", "long"]  # in the order of the suite
    assert not any("have no result" in notice.text for notice in report.notices)


def test_some_runs_of_a_suite_do_not_say_that_the_others_were_not_made(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], examples=200)
    report = build_report([folder / "cells" / "full--seed0", folder / "cells" / "lora--seed0"])
    assert "no result" not in notices(report)
    (table,) = (status_table(suite, report.found) for suite in report.suites)
    assert [[str(cell) for cell in row] for row in table.rows] == [["full", "success"], ["lora", "success"]]


def test_what_lies_beside_the_runs_ends_no_report(tmp_path: Path) -> None:
    """A link to nowhere, a pipe that nobody writes to, and a folder whose name is no text."""
    write_run(tmp_path / "a", FULL, 0, DATA)
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.json")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    write_run(tmp_path / "b", LORA, 0, DATA).rename(odd)
    report = build_report([tmp_path], base=tmp_path)
    assert {item.path: item.reason for item in report.excluded} == {"\\udcff": "the name of its folder is no text"}
    render_html(report).encode()
    render_markdown(report).encode()
    assert "\\udcff" in render_csv(report)


@pytest.mark.parametrize(
    "part",
    [
        {"seed": "one"}, {"seed": [0]}, {"task": "text"}, {"data": [1]}, {"evaluation": 3}, {"method": "lora"},
        {"model": {"from_config": "bert"}}, {"data": {"draw_seed": [1]}}, {"training": {"rank": 10**400}},
    ],
    ids=lambda part: str(part)[:40],
)  # fmt: skip
def test_odd_recipes_in_records_end_no_report(tmp_path: Path, part: dict[str, Any]) -> None:
    write_run(tmp_path / "a", FULL, 0, DATA)
    write_run(tmp_path / "b", LORA, 0, DATA)
    record = json.loads((tmp_path / "b" / "record.json").read_text())
    record["recipe"] |= part
    (tmp_path / "b" / "record.json").write_text(json.dumps(record))
    report = build_report([tmp_path])
    assert "full" in render_markdown(report)
    known = {entry.name for entry in report.entries}
    assert ("lora" in known) == ("b" not in reasons(report))


@pytest.mark.parametrize(
    ("found", "put"), [('"lora"', '"\\uD800"'), ('"steps": 156', f'"steps": 1{"0" * 5000}')], ids=["text", "number"]
)
def test_what_is_no_text_or_has_no_end_is_damage(tmp_path: Path, found: str, put: str) -> None:
    write_run(tmp_path / "a", FULL, 0, DATA)
    path = write_run(tmp_path / "b", LORA, 0, DATA) / "record.json"
    path.write_text(path.read_text().replace(found, put))
    assert "damaged" in reasons(build_report([tmp_path]))["b"]


def test_odd_lines_in_a_log_end_no_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", FULL, 0, DATA)
    lines = ['{"step": 1, "validation": [1]}', '{"step": 2, "validation": "accuracy"}', '{"step": 3, "loss": NaN}']
    lines += ['{"step": 4, "validation": {"accuracy": "high"}}', '{"step": [], "loss": 1}', '{"step": 5, "loss": 2.5}']
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    text = render_markdown(build_report([tmp_path]))
    assert "| full | 2.5 | – | – |" in text
    assert "nan" not in text


@pytest.mark.parametrize(
    "part",
    [
        {"seeds": [[0]]}, {"seeds": ["one"]}, {"tuning": {"trials": 4, "learning_rate": [0, -1]}},
        {"published": {"lora": {"metric": "accuracy", "score": "high", "source": "x"}}},
        {"published": {"lora": {"metric": "accuracy", "score": float("inf"), "source": "x"}}}, {"methods": "lora"},
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_suite_is_told_and_its_runs_are_compared(tmp_path: Path, part: dict[str, Any]) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], seeds=[0], examples=200)
    values = json.loads((folder / "suite.yaml").read_text())
    (folder / "suite.yaml").write_text(json.dumps(values | part).replace("Infinity", ".inf"))
    report = build_report([folder])
    assert "it is no suite" in reasons(report)["suite.yaml"]
    assert len(report.comparisons[0].methods) == 2
    render_markdown(report)


@pytest.mark.parametrize("change", [{"score": "high"}, {"parameters": 3}, {"status": [1]}], ids=str)
def test_odd_tuning_ends_no_report(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], seeds=[0], examples=200)
    path = folder / "tuning" / "lora.json"
    values = json.loads(path.read_text())
    values["rungs"][0]["trials"][0] |= change
    values["chosen"] = {"training.learning_rate": "fast"}
    path.write_text(json.dumps(values))
    render_html(build_report([folder]))


def test_one_run_is_told_in_the_singular(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "suite", [FULL, LORA], seeds=[0], examples=200)
    shutil.rmtree(folder / "cells" / "lora--seed0")
    assert "1 of 2 planned runs of the suite tweet-sentiment has no result: 1 not run." in notices(
        build_report([folder])
    )
    alone = build_report([write_run(tmp_path / "alone", FULL, 0, DATA)])
    assert not alone.notices  # of one run there is no budget to be unequal
