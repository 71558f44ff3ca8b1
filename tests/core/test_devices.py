"""One place chooses the device: every verb that computes takes ``--device``, and refuses what is not here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from peftlab.core.devices import choose_device
from peftlab.core.errors import UserError
from peftlab.training.accelerator import build_accelerator
from tests.conftest import Command

VERBS = {
    "run": ["run", "{run}/recipe.yaml", "--output-dir", "out"],
    "predict": ["predict", "{run}", "a film"],
    "evaluate": ["evaluate", "{run}", "--data", "{table}"],
    "explain": ["explain", "{run}", "a film"],
    "export": ["export", "{run}", "--format", "merged", "--output", "out"],
    "serve": ["serve", "{run}", "--port", "0"],
    "reproduce": ["reproduce", "{run}", "--output-dir", "out"],
    "chat": ["chat", "{run}"],
    "bench": ["bench", "suite.yaml", "--output-dir", "out"],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["cuda", "cuda:1", "gpu", "cuda:", "CPU", "0"])
def test_what_is_not_here_is_refused(
    verb: str, name: str, command: Command, tiny_run: Callable[..., Path], reviews: Path, tmp_path: Path
) -> None:
    suite = f"name: s\nrecipe: {tiny_run()}/recipe.yaml\nmethods: [{{type: lora}}]\nseeds: [0]\ntuning: null\n"
    (tmp_path / "suite.yaml").write_text(suite)
    words = [word.format(run=tiny_run(), table=reviews) for word in VERBS[verb]]
    done = command(*words, "--device", name)
    assert done.returncode == 2, done.stderr
    assert "--device" in done.stderr
    assert "no CUDA device here" in done.stderr if name in ("cuda", "cuda:1") else "not a known device" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_number_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name, device in {"auto": "cuda:0", "cuda": "cuda:0", "cuda:1": "cuda:1", "cpu": "cpu"}.items():
        assert choose_device(name) == torch.device(device)
    assert [str(device) for device in chosen] == ["cuda:0", "cuda:0", "cuda:1"]
    with pytest.raises(UserError, match="there are cuda:0, cuda:1"):
        choose_device("cuda:2")


def test_accelerate_computes_where_the_run_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Mac's own accelerator, or a card that the user does not want, is not taken behind the run's back."""
    monkeypatch.setattr("accelerate.state.PartialState.default_device", torch.device("meta"))
    accelerator = build_accelerator(computation=None, tracking=[], folder=tmp_path, device=torch.device("cpu"))
    assert accelerator.device == torch.device("cpu")


@pytest.fixture
def two_old_cards(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Two RTX 40 under a driver before 550, as far as torch and accelerate ask; the cards that were made current."""
    chosen: list[torch.device] = []
    for name, found in {"is_available": True, "device_count": 2, "is_bf16_supported": True}.items():
        monkeypatch.setattr(torch.cuda, name, lambda found=found: found)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr("accelerate.utils.environment.get_gpu_info", lambda: (["NVIDIA GeForce RTX 4090"] * 2, 2))
    monkeypatch.setattr("accelerate.utils.environment.get_driver_version", lambda: "535.183.01")
    for name in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that it is as it was after the test
        monkeypatch.delenv(name)
    return chosen


@pytest.mark.parametrize("launched", [False, True])
def test_accelerate_takes_the_card_of_the_run(
    launched: bool, two_old_cards: list[torch.device], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if launched:
        monkeypatch.setenv("LOCAL_RANK", "0")  # of a job of one process; accelerate would join others, on cuda:0
    card = torch.device("cuda", 1)
    accelerator = build_accelerator(computation=torch.bfloat16, tracking=[], folder=tmp_path, device=card)
    assert accelerator.device == accelerator.state.device == card
    assert two_old_cards == [card]
    assert accelerator.num_processes == 1
    assert os.environ["NCCL_P2P_DISABLE"] == os.environ["NCCL_IB_DISABLE"] == "1"
    assert os.environ.get("LOCAL_RANK") == ("0" if launched else None)


def test_nobody_else_asks_for_cuda() -> None:
    package = Path(__file__).parents[2] / "peftlab"
    asking = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if "cuda.is_available" in path.read_text()
    }
    # The others ask what a card that is there can do, save its generator's state, and share cards among processes.
    others = {"core/bfloat16.py", "training/checkpoints.py", "training/joining.py", "doctor/trial.py"}
    assert asking <= {"core/devices.py", *others}
