"""Suites that go on from a pack: only what is missing runs, and a kill loses nothing."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from peftlab.core.record import read_record
from peftlab.packs.layout import is_pack
from peftlab.packs.read_pack import open_pack
from tests.bench.orphans import wait_until_none_runs_in
from tests.bench.test_bench import SUITE, Bench, bench, start, suite
from tests.conftest import Command
from tests.patience import PATIENCE

__all__ = ["bench", "suite"]
pytestmark = pytest.mark.slow

TUNED = (
    SUITE.replace("  - {name: refused, type: lora, target_modules: [no_such_module]}\n", "")
    .replace("seeds: [0, 1]", "seeds: [0]")
    .replace("tuning: null", "tuning: {trials: 2, learning_rate: [1e-4, 1e-2]}")
)

ONE = SUITE.replace(
    "  - {name: refused, type: lora, target_modules: [no_such_module]}\n  - {type: bitfit}\n", ""
).replace("seeds: [0, 1]", "seeds: [0]")


def started(folder: Path) -> dict[str, str]:
    """When each run began, packed or not."""
    found = {}
    if is_pack(folder):
        pack = open_pack(folder)
        found = {run: pack.record(run).started_at for run in pack.runs}
    for path in [*folder.glob("cells/*/record.json"), *folder.glob("tuning/trials/*/record.json")]:
        found[path.parent.relative_to(folder).as_posix()] = read_record(path).started_at
    return found


def data_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


def test_bench_goes_on_from_a_pack(suite: Path, bench: Bench, command: Command) -> None:
    suite.write_text(TUNED)
    out = suite.parent / "out"
    code, _, errors = bench()
    assert code == 0, errors
    first = started(out)
    assert len(first) == 6
    done = command("pack", out, "--json")
    assert done.returncode == 0, done.stderr
    # The adapters stay with their cells; without them nothing but the pack is left.
    assert sorted(json.loads(done.stdout)["kept"]) == ["bitfit--seed0", "linear_probe--seed0"]
    for weights in out.glob("cells/*/*"):
        if weights.is_dir():
            shutil.rmtree(weights)
    packed(command, out)
    assert not (out / "cells").exists()
    before = data_files(out)

    # Nothing is missing: nothing runs, and the pack stays as it is, byte for byte.
    code, shown, _ = bench("--dry-run")
    assert (code, shown["missing"], shown["folder"]) == (0, 0, str(out))
    assert data_files(out) == before
    code, result, errors = bench()
    assert (code, result["runs"]) == (0, 0), errors
    assert data_files(out) == before

    # A further seed: only its runs, killed in the first of them, then ended.
    suite.write_text(TUNED.replace("seeds: [0]", "seeds: [0, 1]"))
    assert bench("--dry-run")[1]["missing"] == 2
    assert data_files(out) == before
    kill_when(suite, out / "cells/linear_probe--seed1/recipe.yaml")
    assert first.items() <= started(out).items()
    code, result, errors = bench()
    assert code == 0, errors
    assert result["statuses"] == {"success": 4}
    now = started(out)
    assert first.items() <= now.items()
    assert len(now) == 8

    # Killed while the pack is laid out: whatever is there already, nothing is lost.
    packed(command, out)
    kill_when(suite, out / "cells/bitfit--seed0")
    assert now.items() <= started(out).items()
    assert bench()[1]["runs"] == 0
    assert started(out) == now


def packed(command: Command, out: Path) -> None:
    done = command("pack", out)
    assert done.returncode == 0, done.stderr
    assert is_pack(out)


def kill_when(suite: Path, there: Path) -> None:
    process = start(suite)
    deadline = time.monotonic() + PATIENCE
    while not there.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    wait_until_none_runs_in(suite.parent)


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_a_pack_is_one_again_however_the_suite_ends(
    suite: Path, command: Command, forked_runs: None, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    from peftlab.bench.execute import Execution

    out = suite.parent / "out"
    suite.write_text(ONE)
    assert command("bench", suite, "--output-dir", out, "--offline").returncode == 0
    packed(command, out)
    before = open_pack(out).runs

    def stop(_self: Execution) -> None:
        assert not is_pack(out)
        raise end

    monkeypatch.setattr(Execution, "execute", stop)
    done = command("bench", suite, "--output-dir", out, "--offline")
    assert done.returncode == 1
    assert is_pack(out)
    assert open_pack(out).runs == before
    # What is in a pack cannot be used, and is told how it comes out of it.
    shutil.rmtree(out / "cells")
    for place in (out, out / "cells" / "linear_probe--seed0"):
        refused = command("predict", place, "hello")
        assert refused.returncode == 2
        assert f"peftlab reproduce {out}" in refused.stderr
        assert "weights" in refused.stderr
