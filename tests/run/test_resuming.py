"""What tells that a checkpoint is of this very run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from peftlab.core.errors import UserError
from peftlab.core.record import read_record
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import load_recipe
from peftlab.run.at_work import at_work
from peftlab.run.resuming import latest_checkpoint, state_of
from peftlab.run.run import run_recipe


def run_on(device: str, dtype: torch.dtype, *, data: str = "same", base: str = "one", state: Any = None) -> Any:
    """As much of a run as its identity is told by; its latest checkpoint has the state."""
    summary = SimpleNamespace(fingerprint=data, added_rows_fingerprint=None)
    return SimpleNamespace(
        dtype=dtype,
        device=torch.device(device),
        started=0.0,
        findings=SimpleNamespace(
            notes={}, initial_adapter_sha256="a", base_sha256=base, resumed=0, earlier_seconds=0.0, acceleration={},
            clock=SimpleNamespace(state_dict=dict),
        ),
        checked=SimpleNamespace(
            data=SimpleNamespace(summary=summary), labels=("x", "y"), facts=SimpleNamespace(tokenizer=None)
        ),
        recipe=SimpleNamespace(task=SimpleNamespace(learned={})),
        world=SimpleNamespace(size=1, first=lambda work: work()),
        folder=SimpleNamespace(
            path=Path("run"), checkpoints=SimpleNamespace(read_latest=lambda: SimpleNamespace(state=state))
        ),
    )  # fmt: skip


def test_a_run_goes_on_on_another_device_where_its_base_has_other_bits() -> None:
    state = state_of(run_on("cpu", torch.float32))
    assert latest_checkpoint(run_on("cuda", torch.bfloat16, base="other", state=state)) is not None


@pytest.mark.parametrize(("changed", "told"), [({"base": "other"}, "base_weights"), ({"data": "other"}, "data_finger")])
def test_what_has_changed_is_named(changed: dict[str, str], told: str) -> None:
    state = state_of(run_on("cpu", torch.float32))
    with pytest.raises(UserError, match=f"cannot be resumed here: `{told}"):
        latest_checkpoint(run_on("cpu", torch.float32, **changed, state=state))


def test_others_see_that_a_run_goes_on_before_its_data_are_read(
    tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board said for all that time that the run was cancelled."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run(), folder)
    seen: list[int | None] = []

    def check(*arguments: Any, **options: Any) -> Any:
        seen.append(at_work(folder).process)
        return check_recipe(*arguments, **options)

    monkeypatch.setattr("peftlab.run.run.check_recipe", check)
    done = run_recipe(*load_recipe(folder / "recipe.yaml"), output_dir=folder, resume=True)
    assert done.record == read_record(folder)
    assert seen == [os.getpid()]
    assert at_work(folder).process is None
