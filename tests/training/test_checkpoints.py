"""Checkpoints are whole or not there, and hold exactly what was put in."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch

from peftlab.core.errors import UserError
from peftlab.core.generators import generator_states, kept_generators, restore_generators
from peftlab.training.checkpoints import (
    BEST,
    Checkpoint,
    CheckpointFolder,
    restore_parameters,
)


def checkpoint(value: float) -> Checkpoint:
    return Checkpoint(
        parameters={"w": torch.full((2, 2), value)},
        hooks={},
        state={"progress": {"step": int(value)}},
        optimizer={"0.exp_avg": torch.zeros(2)},
        generators=generator_states(),
    )


def test_only_the_latest_step_is_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.read_latest() is None
    for step in (9, 10, 100):
        folder.write_step(step, checkpoint(step))
    assert [path.name for path in folder.folder.iterdir()] == ["step-00000100"]
    latest = folder.read_latest()
    assert latest is not None
    assert latest.state["progress"]["step"] == 100
    assert torch.equal(latest.parameters["w"], torch.full((2, 2), 100.0))


@pytest.mark.parametrize("is_all", [False, True])
def test_a_checkpoint_that_a_kill_has_half_deleted_is_taken_for_none(
    is_all: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    folder.write_step(1, checkpoint(1))

    def killed(path: Path, **_: object) -> None:
        if not any(path.rglob(f"step-0000000{2 if is_all else 1}")):
            return  # what goes anyway
        next(path.rglob("state.json")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with contextlib.suppress(KeyboardInterrupt):
            folder.write_step(2, checkpoint(2))
            folder.delete()
    latest = folder.read_latest()
    assert (latest is None) is is_all
    folder.write_step(3, checkpoint(3))
    assert [path.name for path in folder.folder.iterdir()] == ["step-00000003"]
    folder.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.write_step(1, checkpoint(1))

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("peftlab.training.checkpoints.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        folder.write_step(2, checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_the_best_is_found_where_a_kill_came_while_it_was_replaced(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.write(BEST, checkpoint(1))
    (tmp_path / ".best.of-another-machine.retired").mkdir()
    (tmp_path / BEST).replace(tmp_path / ".best.of-another-machine.retired" / BEST)
    best = folder.read_best()
    assert best is not None
    assert best.state["progress"]["step"] == 1


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.write_step(1, checkpoint(1))
    (tmp_path / "step-00000001" / "parameters.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        folder.read_latest()


def test_parameters_of_another_model_are_refused() -> None:
    with pytest.raises(UserError, match="another model"):
        restore_parameters(torch.nn.Linear(2, 2), {"other": torch.zeros(2, 2)})


def test_generators_go_on_where_they_were(tmp_path: Path) -> None:
    states = generator_states()
    first = torch.rand(3)
    restore_generators(states)
    assert torch.equal(torch.rand(3), first)


def test_a_card_among_others_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the run's own card counts, whichever it is: the next machine may have fewer."""
    own = [torch.tensor([1], dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: own[0])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state: own.__setitem__(0, state))
    states = generator_states()
    assert sorted(states) == ["cpu", "cuda"]
    own[0] = torch.tensor([2], dtype=torch.uint8)
    restore_generators(states)
    assert own[0].tolist() == [1]
    with kept_generators():
        own[0] = torch.tensor([3], dtype=torch.uint8)
        torch.manual_seed(7)
    assert own[0].tolist() == [1]
    assert torch.equal(torch.get_rng_state(), states["cpu"])
    of_eight = {f"cuda.{card}": torch.tensor([card + 5], dtype=torch.uint8) for card in range(8)}  # as once written
    restore_generators({"cpu": torch.get_rng_state(), **of_eight})
    assert own[0].tolist() == [5]


@pytest.mark.parametrize("written", [None, 1, 99])
def test_a_checkpoint_of_another_version_is_told(tmp_path: Path, written: int | None) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.write_step(1, checkpoint(1))
    file = tmp_path / "step-00000001" / "state.json"
    state = {key: value for key, value in json.loads(file.read_text()).items() if key != "format"}
    file.write_text(json.dumps(state if written is None else {**state, "format": written}))
    with pytest.raises(UserError, match="another version of peftlab began it"):
        folder.read_latest()
