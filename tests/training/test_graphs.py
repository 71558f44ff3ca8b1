"""Recorded passes: what is replayed on tensors that stay is what would have been computed, bit for bit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from peftlab.acceleration import recording
from peftlab.acceleration.recording import CudaRecorder
from peftlab.core.hooks import TrainingHooks
from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.token_classification import IGNORED, TokenClassification
from peftlab.testing.training_jobs import checked, job_of
from peftlab.training import graphs as graphs_module
from peftlab.training.graphs import StepGraphs, build_graphs, graph_length
from peftlab.training.hooks import HookList
from tests.training.recorded import TapeRecorder, assert_equal, losses_of, with_graphs

pytestmark = pytest.mark.slow

TASK = {"type": "text_classification", "max_length": 24}


class Unable:
    """Fails as a recording does: at first in the work, and then at its end."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def record(self, _work: Callable[[], None]) -> Callable[[], None]:
        try:
            raise self.error
        finally:
            raise RuntimeError("the recording was not valid")


@pytest.mark.parametrize("method", [{"type": "lora", "rank": 4}, {"type": "full"}, {"type": "adalora"}], ids=str)
def test_replayed_steps_are_the_plain_ones_bit_for_bit(tiny_bert: Path, method: dict[str, Any]) -> None:
    """With dropout, whose random numbers are new in each step, accumulation, and AdaLoRA's penalty and pruning."""
    ready = checked(tiny_bert, TASK, [], dropout=0.1, method=method)
    recorder = TapeRecorder()
    plain, replayed = with_graphs(job_of(ready), TapeRecorder()), with_graphs(job_of(ready), recorder)
    assert plain.graphs is not None
    assert replayed.graphs is not None
    plain.graphs.problem = "computed plainly"
    wanted, found = losses_of(plain), losses_of(replayed)
    assert_equal(found, wanted)
    assert len({float(loss) for loss in found[0]}) == 6, "each step has numbers of its own"
    assert recorder.recorded == 2, "one for each shape"
    assert replayed.graphs.replays == 10, "all but the first of each shape"
    assert replayed.graphs.summary() == 2
    assert plain.graphs.replays == 0


def test_padding_to_the_lengths_of_graphs_changes_nothing(tiny_bert: Path) -> None:
    ready = checked(tiny_bert, TASK, [])
    wanted, found = losses_of(job_of(ready), 3), losses_of(with_graphs(job_of(ready), TapeRecorder()), 3)
    torch.testing.assert_close(torch.stack(found[0]), torch.stack(wanted[0]), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_recorded_is_computed_plainly_and_the_reason_is_kept(tiny_bert: Path) -> None:
    ready = checked(tiny_bert, TASK, [], dropout=0.1)
    plain, failing = (with_graphs(job_of(ready), Unable(ValueError("no such kernel\nsecond line"))) for _ in range(2))
    assert plain.graphs is not None
    assert failing.graphs is not None
    plain.graphs.problem = "computed plainly"
    assert_equal(losses_of(failing, 3), losses_of(plain, 3))
    assert failing.graphs.summary() == "a step could not be recorded: ValueError: no such kernel"
    full = with_graphs(job_of(ready), Unable(MemoryError()))
    losses_of(full, 2)
    assert full.graphs is not None
    assert full.graphs.summary() == "memory ran out while a step was recorded"


def test_weights_that_have_moved_are_recorded_anew(tiny_bert: Path) -> None:
    recorder = TapeRecorder()
    plain, moved = (with_graphs(job_of(checked(tiny_bert, TASK, [])), own) for own in (TapeRecorder(), recorder))
    assert plain.graphs is not None
    plain.graphs.problem = "computed plainly"
    results = []
    for job in (plain, moved):
        losses_of(job, 3)
        for parameter in job.model.parameters():
            parameter.data = parameter.data.clone()
        results.append(losses_of(job, 2))
    assert_equal(results[1], results[0])
    assert recorder.recorded == 4


@pytest.mark.parametrize("micro_batch_size", [None, "auto"])
def test_memory_that_ran_out_gives_the_graphs_back(tiny_bert: Path, micro_batch_size: str | None) -> None:
    """The step is computed again without them, as it would have been; only then with fewer examples at once."""
    ready = checked(tiny_bert, TASK, [], dropout=0.1, training__micro_batch_size=micro_batch_size)
    plain, job = (with_graphs(job_of(ready), TapeRecorder()) for _ in range(2))
    assert plain.graphs is not None
    plain.graphs.problem = "computed plainly"
    job.micro_batches.may_shrink = micro_batch_size == "auto"
    graphs = job.graphs
    assert graphs is not None
    compute, calls = graphs.compute, [0]

    def fail_once(*arguments: Any, **keywords: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 6:  # in the middle of the third step, of which half is there
            raise MemoryError
        return compute(*arguments, **keywords)

    object.__setattr__(graphs, "compute", fail_once)
    assert_equal(losses_of(job, 4), losses_of(plain, 4))
    assert graphs.summary() == "memory ran out beside the graphs"
    assert job.micro_batches.size is None


class Changing(TrainingHooks):
    """Does something after each step, and does not say what."""

    registered_name: ClassVar[str] = "changing"

    def after_step(self, model: Any, step: int) -> None:
        """What it does is its own."""


def test_reasons_for_the_plain_way(tiny_bert: Path) -> None:
    job = job_of(checked(tiny_bert, TASK, [], training__cuda_graphs="on"))
    assert build_graphs(job) == "this is no CUDA device"
    reasons = {
        "`r_drop` may change": job_of(checked(tiny_bert, TASK, [{"type": "r_drop"}], dropout=0.1)),
        "`changing` may change": replace(job, hooks=HookList([Changing()])),
        "several processes": replace(
            job, accelerator=SimpleNamespace(num_processes=2, scaler=None, device=job.accelerator.device,
                                             unwrap_model=lambda model: model)
        ),
        "gradient checkpointing": replace(job, config=job.config.model_copy(update={"gradient_checkpointing": True})),
        "cannot be made longer": replace(job, task=Collating(text="text", label="label")),
        "be made longer": replace(job, task=Losing(text="text", label="label")),
        "compiled blocks": replace(job, config=job.config.model_copy(update={"compile": "blocks"})),
    }  # fmt: skip
    for words, own in reasons.items():
        found = build_graphs(own, TapeRecorder())
        assert isinstance(found, str)
        assert words in found
    averaged = build_graphs(
        job_of(checked(tiny_bert, TASK, [{"type": "ema"}], training__cuda_graphs="on")), TapeRecorder()
    )
    assert isinstance(averaged, StepGraphs), "EMA moves a mean beside the weights"


class Losing(TextClassification):
    """A task with a loss of its own, of which its base knows nothing."""

    def training_loss(self, model: Any, batch: Any) -> Any:
        """The base's."""
        return super().training_loss(model, batch)


class Collating(TextClassification):
    """A task with batches of its own, of which its base knows nothing."""

    def collate(self, examples: Any, pad_token_id: int) -> Any:
        """The base's."""
        return super().collate(examples, pad_token_id)


def test_by_itself_it_records_where_that_was_seen_to_help(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto`, which is the default; `on` tries the others too."""
    lora, prefix = ({"type": "lora", "rank": 4}, {"type": "prefix_tuning"})
    assert isinstance(build_graphs(job_of(checked(tiny_bert, TASK, [], method=lora)), TapeRecorder()), StepGraphs)
    why = build_graphs(job_of(checked(tiny_bert, TASK, [], method=prefix)), TapeRecorder())
    assert why == "virtual tokens could not be recorded (training.cuda_graphs: on tries it)"
    off = checked(tiny_bert, TASK, [], method=lora, model={"path": str(tiny_bert), "acceleration": "off"})
    assert build_graphs(job_of(off), TapeRecorder()) == "acceleration is off (training.cuda_graphs: on tries it)"
    for name, words in (("LARGEST_MODEL", "more than 1,000 parameters"), ("MOST_TRAINED_BYTES", "as many once more")):
        with monkeypatch.context() as patch:
            patch.setattr(graphs_module, name, 1000)
            assert words in str(build_graphs(job_of(checked(tiny_bert, TASK, [], method=lora)), TapeRecorder()))
            on = job_of(checked(tiny_bert, TASK, [], method=lora, training__cuda_graphs="on"))
            assert isinstance(build_graphs(on, TapeRecorder()), StepGraphs)


def test_batches_of_words_are_made_longer_without_a_change_of_their_loss() -> None:
    rows = [[1, 2, 3, 4, 5], [6, 7, 8]]
    examples = [{"input_ids": row, "label": [n % 2 for n in row], "tags": [1, 0], "places": [0, 1]} for row in rows]
    task = TokenClassification()
    batch = task.collate(examples, 0)
    longer = task.lengthened(batch, 8, 0)
    assert {key: value.shape[1] for key, value in longer.items()} == dict.fromkeys(longer, 8)
    assert longer["labels"][0, 5:].tolist() == [IGNORED] * 3
    torch.manual_seed(0)
    model = BertForTokenClassification(
        BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).eval()
    losses = [task.training_loss(model, each) for each in (batch, longer)]
    assert torch.allclose(*losses, atol=1e-6)
    assert task.loss_terms(batch) == task.loss_terms(longer)


def test_lengths_are_few_and_waste_little() -> None:
    lengths = [graph_length(length, 512) for length in range(1, 513)]
    assert len(set(lengths)) <= 24
    assert all(short <= padded for short, padded in zip(range(1, 513), lengths, strict=True))
    assert max(padded / length for length, padded in zip(range(1, 513), lengths, strict=True) if length > 32) < 1.25
    assert graph_length(97, 100) == 100, "no longer than any text: models end somewhere"


class FakeCard:
    """What torch calls of a card, and what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ends: bool = True) -> None:
        self.told: list[str] = []
        self.streams: list[str] = []
        self.ends = ends
        generator = SimpleNamespace(
            clone_state=lambda: "state before", graphsafe_set_state=lambda state: self.told.append(state)
        )
        stand_ins = {
            "current_device": lambda: 0,
            "default_generators": (generator, generator),
            "graph_pool_handle": lambda: self.note(f"pool {len(self.told)}"),
            "current_stream": lambda _index: "stream",
            "stream": lambda _stream: contextlib.nullcontext(),
            "Stream": lambda card: f"stream {len(recording._streams)} of card {card}",
            "graph": self.record,
            "CUDAGraph": type(
                "Graph",
                (),
                {
                    "replay": lambda graph: self.told.append("replay"),
                    "pool": lambda graph: self.pool_of_graph(),
                    "reset": lambda graph: self.told.append("reset"),
                },
            ),
        }
        monkeypatch.setattr(recording, "_streams", {})
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            note = partial(self.close, name)
            monkeypatch.setattr(torch._C, name, note, raising=False)

    def note(self, what: str) -> str:
        self.told.append(what)
        return what

    def pool_of_graph(self) -> str:
        if not self.ends:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")
        return "its pool"

    def close(self, name: str, index: int, pool: str) -> None:
        self.told.append(f"{name} of {pool}")
        if name == "_cuda_endAllocateToPool":
            raise RuntimeError("it was not open")

    @contextlib.contextmanager
    def record(self, graph: Any, pool: str, stream: str, capture_error_mode: str) -> Any:
        self.streams.append(stream)
        self.told.append(f"recording into {pool}, {capture_error_mode}")
        yield


@pytest.mark.parametrize("ends", [False, True], ids=["the card broke it off", "it came to its end"])
def test_a_recording_that_fails_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """torch ends the process where memory is given back twice: it does so itself where a recording has ended."""
    card = FakeCard(monkeypatch, ends=ends)
    recorder = CudaRecorder(torch.device("cuda"))
    replay = recorder.record(lambda: None)
    replay()
    recorder.record(lambda: None)()  # while the first is there, its memory is shared

    def fail() -> None:
        raise ValueError("a look at a tensor")

    with pytest.raises(ValueError, match="a look at a tensor"):
        recorder.record(fail)
    shared = ["recording into pool 0, thread_local", "replay"]
    closed = ["reset"] if ends else ["_cuda_endAllocateToPool of pool 0", "_cuda_releasePool of pool 0"]
    failed = ["state before", *closed]
    assert card.told == ["pool 0", *shared, *shared, shared[0], *failed]
    del replay
    card.told.append("none is left")
    recorder.record(lambda: None)
    assert card.told[-1] == f"recording into pool {len(card.told) - 2}, thread_local", "a name is not used again"


def test_each_card_is_recorded_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own stream is that of the process's first run: what another card does would be done, and not recorded."""
    card = FakeCard(monkeypatch)
    for index in (0, 1, 0):
        CudaRecorder(torch.device("cuda", index)).record(lambda: None)
    assert card.streams == ["stream 0 of card 0", "stream 1 of card 1", "stream 0 of card 0"]


RECIPE = """\
model: {{path: {model}, dtype: float32}}
task: {{type: text_classification, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.2}}
method: {{type: lora, rank: 2}}
measure: false
training: {{max_steps: {steps}, batch_size: 4, cuda_graphs: {graphs}, precision: float32, log_every_steps: 1}}
"""


def test_the_record_says_why_there_are_none(tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(model=tiny_bert, data=reviews, graphs="on", steps=2))
    record = run_recipe(*load_recipe(path), output_dir=tmp_path / "run").record
    assert record.acceleration is not None
    assert record.acceleration["cuda_graphs"] == "this is no CUDA device"
    words = ["training.cuda_graphs=auto"]
    record = run_recipe(*load_recipe(path, words), output_dir=tmp_path / "auto").record
    assert "cuda_graphs" not in (record.acceleration or {}), "nobody has asked for any"


@pytest.mark.gpu
def test_graphs_of_a_card_give_the_plain_losses(tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    losses = []
    for graphs in ("off", "on"):
        path = tmp_path / f"{graphs}.yaml"
        path.write_text(RECIPE.format(model=tiny_bert, data=reviews, graphs=graphs, steps=24))
        folder = tmp_path / graphs
        record = run_recipe(*load_recipe(path), output_dir=folder).record
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert record.acceleration is not None
    assert isinstance(record.acceleration["cuda_graphs"], int), record.acceleration["cuda_graphs"]
    assert record.acceleration["cuda_graphs"] >= 1
    assert len(losses[0]) == 24
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
