"""How the processes of a run share its work, and what is said where they cannot."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import peftlab
from peftlab.core.callback import Callback, CallbackList
from peftlab.core.config import Document, replace_config
from peftlab.core.errors import RunFailedError, UnsupportedError, UserError
from peftlab.core.record import RunRecord, read_record
from peftlab.preparation.check import CheckedRecipe, check_recipe
from peftlab.preparation.check_sharding import check_sharding
from peftlab.recipe.schema import build_recipe
from peftlab.regularizers.mixup import Mixup
from peftlab.run.processes import check_alike, check_same_work
from peftlab.run.run_context import RunContext
from peftlab.training import local_processes
from peftlab.training.joining import own_device
from peftlab.training.launch import Started, find_start
from peftlab.training.watch import Watch
from peftlab.training.world import World, WorldOnPaper, share


class Pair(World):
    """Two processes, of which the second one's values are given."""

    size = 2

    def __init__(self, other: Any) -> None:
        self._other = other

    def gather(self, value: Any) -> list[Any]:
        return [value, self._other(value)]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_example_is_in_one_share(size: int) -> None:
    batches = [[4, 9, 2, 7, 1], [3], [8, 0]]
    shares = [share(batches, rank, size) for rank in range(size)]
    assert sorted(at for own in shares for part in own for at in part) == [0, 1, 2, 3, 4, 7, 8, 9]
    assert all(part for own in shares for part in own)
    assert len(shares[0]) == len(batches)  # the first process adds what is added once a batch
    counts = [sum(map(len, own)) for own in shares]
    assert counts == sorted(counts, reverse=True)


def test_a_share_keeps_the_order_of_its_batch() -> None:
    assert [share([[4, 9, 2, 7, 1]], rank, 2) for rank in (0, 1)] == [[[4, 9, 2]], [[7, 1]]]


def test_one_process_answers_with_what_it_is_given() -> None:
    world, loss = World(), torch.tensor(2.0)
    assert world.sum(3, 4) == [3, 4]
    assert (world.any(False), world.any(True)) == (False, True)
    assert list(world.map(lambda item: item + 1, [1, 2])) == [2, 3]
    assert world.first(lambda: "a") == "a"
    assert world.sum_gradients([], loss) is loss


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RANK": ""}, "RANK is not set"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "MASTER_ADDR and MASTER_PORT are not set"),
        ({"RANK": "2"}, "the variable RANK: `2` is no number from 0 to 1"),
        ({"MASTER_PORT": "http"}, "the variable MASTER_PORT: `http` is no number"),
    ],
)
def test_a_launcher_that_says_too_little(changes: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "1",
        "MASTER_ADDR": "here",
        "MASTER_PORT": "1234",
        **changes,
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        find_start()
    assert said in str(caught.value)


def test_more_processes_than_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    start = Started(4, 1, 1, "here", 1234)
    assert own_device("auto", start) == "cuda:1"
    assert own_device("cpu", start) == "cpu"
    with pytest.raises(UserError, match="more processes than devices"):
        own_device("cuda", replace(start, rank=2, local_rank=2))
    with pytest.raises(UserError, match="cannot share one card"):
        own_device("cuda:0", start)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert own_device("auto", start) == "cuda:0", "srun --gpus-per-task=1: each process sees its own card alone"


def test_what_nccl_says_at_the_end_is_told() -> None:
    said = "NCCL error in: NCCLUtils.cpp:94, unhandled system error\nncclSystemError: A call failed.\nLast error:\n"
    found = Watch(None, 0, 2, timeout=0.01).loss(RuntimeError(f"{said}Error while creating shared memory segment\n"))
    assert found.message.endswith("unhandled system error: Error while creating shared memory segment")


@pytest.fixture
def checked(tiny_bert: Path, reviews: Path) -> CheckedRecipe:
    values = {
        "name": "world",
        "model": {"path": str(tiny_bert)},
        "task": {"type": "text_classification", "text": "text", "label": "label", "max_length": 32},
        "data": {"source": str(reviews)},
        "method": {"type": "lora"},
    }
    document = Document(source="recipe.yaml", values=values)
    return check_recipe(build_recipe(document, default_name="world"), document, offline=True)


def test_processes_with_other_work_are_refused(checked: CheckedRecipe) -> None:
    def with_other_rank(values: Any) -> Any:
        return {**values, "recipe": {**values["recipe"], "method": {**values["recipe"]["method"], "rank": 2}}}

    def with_other_data(values: Any) -> Any:
        return {**values, "data": {**values["data"], "fingerprint": "other"}}

    check_same_work(Pair(lambda values: values), checked)
    with pytest.raises(UserError, match=r"process 1 has another recipe than process 0: method\.rank is 8 there, and 2"):
        check_same_work(Pair(with_other_rank), checked)
    with pytest.raises(UserError, match=r"process 1 has another data than process 0: data\.fingerprint"):
        check_same_work(Pair(with_other_data), checked)
    uncut = replace(checked, recipe=cast("Any", SimpleNamespace(training_hooks=list)))
    uncut.recipe.task = SimpleNamespace(divisible=False, caches_gradients=False, registered_name="preference_tuning")
    with pytest.raises(UnsupportedError, match="preference_tuning compares the examples of a batch"):
        check_same_work(Pair(lambda values: values), uncut)


def test_a_process_that_has_to_be_ended_leaves_a_record(
    checked: CheckedRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[RunRecord] = []

    def stages(run: RunContext) -> None:
        assert run.world.leave_record is not None
        run.world.leave_record(RunFailedError("process 1 is gone"))
        found.append(read_record(run.folder.path))
        raise RunFailedError("later")

    monkeypatch.setattr("peftlab.run.stages.run_stages", stages)
    result = peftlab.run_recipe(checked.recipe, output_dir=tmp_path / "run", device="cpu")
    assert [(each.status, each.error) for each in found] == [("failed", "process 1 is gone")]
    assert result.record.error == "later"


def test_a_share_that_a_regularizer_does_nothing_with_is_refused(checked: CheckedRecipe) -> None:
    training = replace_config(checked.recipe.training, batch_size=3, regularizers=[Mixup()])
    own = replace(checked, recipe=replace_config(checked.recipe, training=training))
    with pytest.raises(UnsupportedError, match="mixup does nothing with 1 example at once") as caught:
        check_same_work(Pair(lambda values: values), own)
    assert "Set it to 4 at least" in str(caught.value)
    enough = replace_config(checked.recipe, training=replace_config(training, batch_size=4))
    check_same_work(Pair(lambda values: values), replace(checked, recipe=enough))


class Failing(Callback):
    def on_step(self, step: int, loss: float) -> None:
        raise KeyError("missing")


def test_the_first_process_knows_what_its_callback_has_raised() -> None:
    listeners, others = CallbackList([Failing()]), CallbackList()
    listeners.on_step(1, 0.5)
    told = pickle.dumps((listeners.stopped_by, listeners.error))  # as it travels; a cause stays behind
    for each in (listeners, others):
        each.agree(lambda _: pickle.loads(told))  # noqa: S301 - what was packed here
        assert "KeyError" in str(each.error)
    assert isinstance(listeners.error and listeners.error.__cause__, KeyError)


@pytest.mark.parametrize(("codes", "said"), [((0, 3), "when the run was already over"), ((-9, 3), "--resume")])
def test_a_process_that_has_failed_is_named(
    codes: tuple[int, int],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    script = f"""
import os, pathlib, sys, time
code, other = {codes}[int(os.environ["RANK"])], pathlib.Path({str(tmp_path / "other")!r})
if code >= 0:
    other.write_text(f"{{os.getpid()}}.")
    sys.exit(code)
while not (other.exists() and other.read_text().endswith(".")):
    time.sleep(0.01)
try:
    while True:  # until it is known that the other one has ended
        os.kill(int(other.read_text()[:-1]), 0)
        time.sleep(0.01)
except ProcessLookupError:
    os.kill(os.getpid(), -code)
"""
    monkeypatch.setattr(local_processes, "PEFTLAB", (sys.executable, "-c", script))
    assert local_processes.run_processes([], 2, threads=None) == 1
    told = capfd.readouterr().err
    assert "Error: process 1 of 2 ended with exit code 3" in told
    assert said in told


def test_weights_that_differ_end_the_run() -> None:
    with pytest.raises(RunFailedError, match="process 1 has other trained weights than process 0"):
        check_alike(Pair(lambda values: {**values, "trained weights": "other"}), {"trained weights": "own"})


def test_an_estimate_holds_what_would_be_exchanged() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    world = WorldOnPaper(4)
    assert world.share([[1, 2]]) == [[1, 2]]
    assert float(world.sum_gradients([parameter], torch.tensor(1.0))) == 1
    assert parameter.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": {"path": "x", "offload": "disk"}}, "model.offload"),
        ({"model": {"path": "x", "quantization": "int8"}}, "model.quantization"),
        ({"method": {"type": "oft"}}, "method.type"),
        ({"method": {"type": "eva"}}, "method.type"),
        ({"method": {"type": "lora", "dora": True}}, "method.dora"),
        ({"method": {"type": "lora", "initialization": "pissa"}}, "method.initialization"),
        ({"method": {"type": "lora", "target_parameters": "all-experts"}}, "method.target_parameters"),
        ({"method": {"type": "full"}, "training": {"optimizer": "adafactor"}}, "training.optimizer"),
        ({"training": {"micro_batch_size": "auto"}}, "training.micro_batch_size"),
    ],
)
def test_what_a_base_in_parts_cannot_take_is_refused(changes: dict[str, Any], key: str) -> None:
    values = {
        "model": {"path": "x"},
        "task": {"type": "text_classification"},
        "data": {"source": "x.csv"},
        "method": {"type": "lora"},
        **changes,
    }
    values["training"] = {**values.get("training", {}), "sharding": "fsdp"}
    with pytest.raises(UnsupportedError) as caught:
        check_sharding(peftlab.Recipe.from_dict(values))
    assert caught.value.where == key
