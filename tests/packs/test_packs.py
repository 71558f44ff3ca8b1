"""Packs: small, the same report, nothing lost, and every kind of damage told."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "report"))

from fakes import METHODS, write_suite

from peftlab.core.errors import UserError
from peftlab.core.record import read_record, write_record
from peftlab.packs import write_pack
from peftlab.packs.runs import read_metrics_file, read_run_metrics, suite_cells
from peftlab.packs.unpacking import unpack
from tests.conftest import Command

pytestmark = pytest.mark.slow

FILES = {
    "suite.yaml",
    "records.jsonl",
    "predictions.parquet",
    "metrics.parquet",
    "pack.json",
    "report.html",
    "report.md",
}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Two methods, two seeds; one run failed, and tuning left trials."""
    folder = write_suite(tmp_path / "tweets", METHODS[:3], seeds=(0, 1), examples=60)
    failed = folder / "cells" / "adalora--seed1"
    record = read_record(failed)
    write_record(record.model_copy(update={"status": "failed", "error": "it broke", "scores": {}}), failed)
    (failed / "predictions.parquet").unlink()
    trial = folder / "tuning" / "trials" / "lora--trial0-on-625"
    trial.mkdir(parents=True)
    write_record(record, trial)
    (trial / "recipe.yaml").write_text("name: x\n")
    shutil.copy(failed / "metrics.jsonl", trial)
    (folder / "tuning" / "optuna.jsonl").write_bytes(b"made anew")
    return folder


def packed(command: Command, folder: Path, *options: object) -> dict[str, object]:
    done = command("pack", folder, "--json", *options)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def reports(command: Command, folder: Path, place: Path) -> dict[str, str]:
    """The report in every form, made where paths are shown alike."""
    texts = {}
    for ending in ("html", "md"):
        output = place / f"made.{ending}"
        output.unlink(missing_ok=True)
        done = command("report", folder, "--output", output)
        assert done.returncode == 0, done.stderr
        texts[ending] = output.read_text()
    texts["json"] = command("report", folder, "--json").stdout
    return texts


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_the_report_of_a_pack_is_that_of_the_folder(command: Command, suite: Path, tmp_path: Path) -> None:
    before = reports(command, suite, tmp_path)
    told = packed(command, suite)
    assert set(contents(suite)) == FILES | {"tuning.parquet"}
    assert (told["cells"], told["trials"], told["left_out"], told["kept"]) == (6, 1, {}, {})
    assert reports(command, suite, tmp_path) == before
    assert (suite / "report.html").read_text().startswith("<!-- peftlab report -->")
    assert "lora" in (suite / "report.md").read_text()
    lines = (suite / "records.jsonl").read_text().splitlines()
    assert sorted({json.loads(line)["status"] for line in lines}) == ["failed", "success"]
    table = pq.read_table(suite / "predictions.parquet")
    assert table.column_names == ["cell", "split", "index", "label", "prediction", "scores"]
    assert pc.count_distinct(table["cell"]).as_py() == 5


def test_the_same_folder_gives_the_same_bytes(command: Command, suite: Path, tmp_path: Path) -> None:
    shutil.copytree(suite, tmp_path / "copy" / "tweets")
    packed(command, suite)
    once = contents(suite)
    packed(command, tmp_path / "copy" / "tweets")
    assert contents(tmp_path / "copy" / "tweets") == once
    packed(command, suite)
    assert contents(suite) == once


def test_a_pack_gives_back_what_went_in(command: Command, suite: Path, tmp_path: Path) -> None:
    original = tmp_path / "original"
    shutil.copytree(suite, original)
    packed(command, suite)
    unpack(suite)
    assert not FILES - {"suite.yaml"} & set(contents(suite))
    for path in [*suite_cells(original), original / "tuning/trials/lora--trial0-on-625"]:
        again = suite / path.relative_to(original)
        assert (again / "record.json").read_bytes() == (path / "record.json").read_bytes()
        assert read_metrics_file(again / "metrics.jsonl") == read_metrics_file(path / "metrics.jsonl")
        assert (again / "recipe.yaml").exists()
        if (path / "predictions.parquet").exists():
            before, after = (pq.read_table(folder / "predictions.parquet") for folder in (path, again))
            assert after.equals(before.sort_by([("split", "ascending"), ("index", "ascending")]))
        else:
            assert not (again / "predictions.parquet").exists()
    for name in ("tuning/lora.json", "suite_seconds.json"):
        assert json.loads((suite / name).read_text()) == json.loads((original / name).read_text())


def test_weights_and_unfinished_runs_stay(command: Command, suite: Path, tmp_path: Path) -> None:
    adapter = suite / "cells/lora--seed0/adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(bytes(1000))
    (suite / "cells/full--seed0/record.json").unlink()
    (suite / "cells/full--seed1/record.json").write_text('{"schema_version": 1, "na')
    before = reports(command, suite, tmp_path)
    told = packed(command, suite)
    assert told["cells"] == 4
    assert list(told["kept"]) == ["lora--seed0"]  # type: ignore[call-overload]
    assert told["left_out"]["cells/full--seed0"] == "it has not finished"  # type: ignore[index]
    assert "damaged" in told["left_out"]["cells/full--seed1"]  # type: ignore[index]
    assert (adapter / "adapter_model.safetensors").exists()
    assert (suite / "cells/full--seed0/predictions.parquet").exists()
    assert reports(command, suite, tmp_path) == before


def test_a_pack_elsewhere_leaves_the_folder_alone(command: Command, suite: Path, tmp_path: Path) -> None:
    before = contents(suite)
    told = packed(command, suite, "--output-dir", tmp_path / "shared")
    assert contents(suite) == before
    assert set(contents(tmp_path / "shared")) == FILES | {"tuning.parquet"}
    assert told["folder"] == str(tmp_path / "shared")
    once = contents(tmp_path / "shared")
    packed(command, suite, "--output-dir", tmp_path / "shared")
    # A pack of a pack is the same pack.
    packed(command, tmp_path / "shared", "--output-dir", tmp_path / "second")
    assert contents(tmp_path / "shared") == once == contents(tmp_path / "second")
    smaller = write_suite(tmp_path / "smaller", METHODS[:1], seeds=(0,), examples=20)
    done = command("pack", smaller, "--output-dir", tmp_path / "shared")
    assert done.returncode == 2
    assert "cells that this suite does not have: adalora--seed0" in done.stderr
    (tmp_path / "shared/notes.txt").write_text("mine")
    done = command("pack", suite, "--output-dir", tmp_path / "shared")
    assert done.returncode == 2
    assert "notes.txt" in done.stderr
    (tmp_path / "loop").symlink_to("loop")
    done = command("pack", suite, "--output-dir", tmp_path / "loop")
    assert done.returncode == 2
    assert f"--output-dir {tmp_path / 'loop'}: this is a link that leads nowhere" in done.stderr


def test_records_of_an_older_peftlab_stay_as_they_were_written(command: Command, suite: Path, tmp_path: Path) -> None:
    path = suite / "cells/lora--seed0/record.json"
    values = {
        key: value for key, value in json.loads(path.read_text()).items() if key not in ("resumed", "calibration")
    }
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    before = path.read_bytes()
    for _ in range(2):
        packed(command, suite)
        unpack(suite)
        assert path.read_bytes() == before


def test_logs_with_nothing_nan_and_other_keys(command: Command, suite: Path, tmp_path: Path) -> None:
    """A validation split without a metric that is defined, a loss that diverged, a line that was cut short."""
    lines = [
        '{"step": 1, "loss": NaN, "note": "text"}',
        '{"step": 2, "validation": {}}',
        '{"step": 3, "loss": null}',
        '{"step": 4, "loss": 2',
    ]
    (suite / "cells/lora--seed0/metrics.jsonl").write_text("\n".join(lines))
    before = reports(command, suite, tmp_path)
    packed(command, suite)
    assert reports(command, suite, tmp_path) == before
    for path in suite_cells(suite):
        assert read_run_metrics(path)
    (suite / "cells").mkdir()
    unpack(suite)
    (suite / "cells/lora--seed0/metrics.jsonl").write_text('{"step": 1, "loss": "high"}\n')
    done = command("pack", suite)
    assert done.returncode == 2
    assert "several types under one key" in done.stderr


def test_a_suite_in_which_every_run_failed(command: Command, tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "failed", METHODS[:1], seeds=(0, 1), examples=20, tuning=False)
    for path in suite_cells(suite):
        write_record(read_record(path).model_copy(update={"status": "failed", "error": "no", "scores": {}}), path)
        (path / "predictions.parquet").unlink()
        (path / "metrics.jsonl").unlink()
    before = reports(command, suite, tmp_path)
    packed(command, suite)
    assert set(contents(suite)) == FILES
    assert reports(command, suite, tmp_path) == before
    unpack(suite)
    assert reports(command, suite, tmp_path) == before


@pytest.mark.parametrize("name", ["report.md", "report.html", "records.jsonl", "predictions.parquet"])
def test_a_file_of_the_users_is_not_written_over(command: Command, suite: Path, name: str) -> None:
    (suite / name).write_text("my notes")
    before = contents(suite)
    done = command("pack", suite)
    assert done.returncode == 2
    assert name in done.stderr
    assert contents(suite) == before


def test_tasks_with_labels_of_other_types(command: Command, tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "mixed", METHODS[:3], seeds=(0,), examples=20, tuning=False)
    tables = {
        "lora": pa.table(
            {"split": ["test"] * 3, "index": [4, 2, 9], "label": [0.5, 1.0, 2.0], "prediction": [0.4, 1.5, 2.0]}
        ),
        "adalora": pa.table(
            {"split": ["test"] * 2, "index": [1, 0], "label": [["a", "b"], []], "prediction": [["a"], []]},
            schema=pa.schema(
                [("split", pa.string()), ("index", pa.int64())]
                + [(name, pa.list_(pa.string())) for name in ("label", "prediction")]
            ),
        ),
    }
    for name, table in tables.items():
        pq.write_table(table, suite / f"cells/{name}--seed0/predictions.parquet")
    before = reports(command, suite, tmp_path)
    packed(command, suite)
    assert reports(command, suite, tmp_path) == before
    unpack(suite)
    for name, table in tables.items():
        again = pq.read_table(suite / f"cells/{name}--seed0/predictions.parquet")
        assert again.equals(table.sort_by("index"))


def drop_line(pack: Path) -> None:
    path = pack / "records.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def cut_line(pack: Path) -> None:
    path = pack / "records.jsonl"
    path.write_text(path.read_text()[:-200])


def add_line(pack: Path) -> None:
    path = pack / "records.jsonl"
    path.write_text(path.read_text() * 2)


def other_record_version(pack: Path) -> None:
    path = pack / "records.jsonl"
    path.write_text(path.read_text().replace('"schema_version":1', '"schema_version":7', 1))


def other_version(pack: Path) -> None:
    path = pack / "pack.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 7'))


def cut_index(pack: Path) -> None:
    path = pack / "pack.json"
    path.write_text(path.read_text()[:-30])


def drop_predictions_of_a_cell(pack: Path) -> None:
    table = pq.read_table(pack / "predictions.parquet")
    pq.write_table(table.filter(pc.not_equal(table["cell"], "lora--seed1")), pack / "predictions.parquet")


def drop_one_prediction(pack: Path) -> None:
    table = pq.read_table(pack / "predictions.parquet")
    pq.write_table(table.slice(1), pack / "predictions.parquet")


def flip_a_byte(pack: Path) -> None:
    path = pack / "predictions.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(4)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)


def cut_predictions(pack: Path) -> None:
    path = pack / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def without(name: str) -> Callable[[Path], None]:
    return lambda pack: (pack / name).unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (drop_line, "the record of cells/lora--seed1 is missing: there are 5 lines"),
        (cut_line, "the record is damaged"),
        (add_line, "12 records, but pack.json lists 6"),
        (other_record_version, "the record has schema version 7; this peftlab reads version 1"),
        (other_version, "the pack has schema version 7; this peftlab reads version 1"),
        (cut_index, "the pack's index is damaged"),
        (drop_predictions_of_a_cell, "lora--seed1 has no rows in it, but pack.json says 60"),
        (drop_one_prediction, "has 59 rows in it, but pack.json says 60"),
        (flip_a_byte, "the file is damaged"),
        (cut_predictions, "the file is damaged"),
        (without("predictions.parquet"), "the pack has no predictions.parquet"),
        (without("records.jsonl"), "the pack has no records.jsonl"),
        (without("metrics.parquet"), "the pack has no metrics.parquet"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_damaged_pack_is_told_and_stays(
    command: Command, suite: Path, damage: Callable[[Path], None], told: str
) -> None:
    packed(command, suite)
    damage(suite)
    before = contents(suite)
    done = command("pack", suite)
    assert done.returncode == 2
    assert told in done.stderr
    report = command("report", suite, "--json")
    assert "Traceback" not in report.stderr
    assert told in report.stderr + report.stdout
    assert contents(suite) == before


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", "a/b", ""])
@pytest.mark.parametrize("part", ["cells", "trials", "tuning"])
def test_no_name_in_a_pack_leads_out_of_its_folder(command: Command, suite: Path, part: str, name: str) -> None:
    packed(command, suite)
    values = json.loads((suite / "pack.json").read_text())
    if part == "tuning":
        values["tuning"] = {name: {"best": 1}}
    else:
        values[part][0]["name"] = name
    (suite / "pack.json").write_text(json.dumps(values))
    before = contents(suite.parent)
    with pytest.raises(UserError, match=rf"the pack's index is damaged: {part}\..* cannot name a folder"):
        unpack(suite)
    assert contents(suite.parent) == before


def test_trials_that_are_gone(command: Command, suite: Path, tmp_path: Path) -> None:
    """A report does without them; what would lose them for good does not."""
    packed(command, suite)
    before = reports(command, suite, tmp_path)
    (suite / "tuning.parquet").unlink()
    assert reports(command, suite, tmp_path) == before
    done = command("pack", suite)
    assert done.returncode == 2
    assert "the pack has no tuning.parquet" in done.stderr


def test_a_pack_whose_index_is_gone(command: Command, suite: Path) -> None:
    packed(command, suite)
    (suite / "pack.json").unlink()
    for verb in ("report", "pack"):
        done = command(verb, suite)
        assert done.returncode == 2
        assert "pack.json" in done.stderr


@pytest.mark.parametrize("moves", [0, 1, 3, 6])
def test_killed_while_files_are_moved(
    command: Command, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """After any number of files the report is as before, and the verb can be called again."""
    before = reports(command, suite, tmp_path)
    replace, left = Path.replace, [moves]

    class Killed(BaseException):
        pass

    def counted(self: Path, target: Path) -> Path:
        if self.parent.name == write_pack.STAGING_NAME:
            if not left[0]:
                raise Killed
            left[0] -= 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", counted)
    with pytest.raises(Killed):
        command("pack", suite)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert reports(command, suite, tmp_path) == before
    packed(command, suite)
    assert set(contents(suite)) == FILES | {"tuning.parquet"}
    assert reports(command, suite, tmp_path) == before


@pytest.mark.parametrize("cells", [0, 1, 4])
def test_killed_while_cells_are_removed_or_come_back(
    command: Command, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    before = reports(command, suite, tmp_path)
    original = tmp_path / "original"
    shutil.copytree(suite, original)
    packed(command, suite)
    for path in suite_cells(original)[:cells]:
        shutil.copytree(path, suite / "cells" / path.name)
    half = suite / "cells" / ".full--seed0.x.partial"
    half.mkdir(parents=True)
    retired = suite / "tuning/trials/.lora--trial1-on-625.x.retired"
    retired.mkdir(parents=True)
    (half / "recipe.yaml").write_text("name: x\n")
    (suite / write_pack.REMOVED_NAME / "cells").mkdir(parents=True)
    assert reports(command, suite, tmp_path) == before
    packed(command, suite)
    assert reports(command, suite, tmp_path) == before
    unpack(suite)
    assert not half.exists()
    assert not retired.exists()
    assert reports(command, suite, tmp_path) == before


def test_what_is_no_suite(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, told in (("nothing", "there is no such folder"), ("empty", "not a suite's folder")):
        done = command("pack", tmp_path / folder)
        assert done.returncode == 2
        assert told in done.stderr
    assert not (tmp_path / "nothing").exists()
    assert not list((tmp_path / "empty").iterdir())
    (tmp_path / "empty/suite.yaml").write_text("name: x\n")
    done = command("pack", tmp_path / "empty")
    assert done.returncode == 2
    assert "no finished run to pack" in done.stderr


@pytest.mark.parametrize("damage", [drop_line, cut_line, other_version, drop_predictions_of_a_cell, flip_a_byte])
def test_a_damaged_pack_is_not_reproduced_from(command: Command, suite: Path, damage: Callable[[Path], None]) -> None:
    packed(command, suite)
    damage(suite)
    done = command("reproduce", suite, "lora--seed1")
    assert done.returncode == 2
    assert str(suite) in done.stderr
    assert "Traceback" not in done.stderr


def test_cells_are_named_for_reproduce(command: Command, suite: Path) -> None:
    packed(command, suite)
    done = command("reproduce", suite)
    assert done.returncode == 2
    assert "Name one of its cells: adalora--seed0" in done.stderr
    done = command("reproduce", suite, "lora--seed7")
    assert done.returncode == 2
    assert "Did you mean `lora--seed" in done.stderr
    done = command("reproduce", suite, "adalora--seed1")
    assert done.returncode == 2
    assert "ended as `failed`" in done.stderr
    done = command("report", suite / "cells/lora--seed0", suite / "cells/full--seed1", "--json")
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)["methods"]) == ["full", "lora"]
