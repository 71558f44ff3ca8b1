"""Count what a training step asks of a card, on a machine without one.

    python benchmarks/gpu/counts.py [--only PART]… [--layers N] [--json FILE]

Nothing here is a measurement: no card is used, and no time is told. The parts are `kept` (bytes between forward and
backward), `kernels` (operations of a step that launch one), `head` (products that read the head's matrix) and `waits`
(places where the host asks for a value). Each is told for transformers' and peft's own code (`off`) and for peftlab's
(`auto`), as if the model were on a card of 80 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.gpu.counting import StepCounter, WaitCounter, as_on_host, as_one_kernel
from benchmarks.gpu.steps.models import config_of
from peftlab.acceleration import masks, rms_norm
from peftlab.acceleration.accelerated import accelerated, prepare
from peftlab.acceleration.device import Card, as_if_on
from peftlab.core.tensors import model_tensors
from peftlab.estimate.as_cuda import as_on_cuda
from peftlab.estimate.bare_job import Batch, bare_job
from peftlab.estimate.fakes import give_fake_tensors
from peftlab.measurement.memory import LiveBytes
from peftlab.models.base_model import prepare_config
from peftlab.training.accelerator import build_shapes_accelerator
from peftlab.training.evaluation import to_device
from peftlab.training.job import TrainingJob
from peftlab.training.loop import optimizer_step
from peftlab.training.loss_watch import LossWatch
from peftlab.training.optimizers import build_optimizer
from peftlab.training.steps import Step

CARD = Card("cuda", 80 * 10**9)
RANK = 16
TASK = {"llama": "causal_lm", "bert": "text_classification"}
COLUMNS = {"llama": {"text": "text"}, "bert": {"text": "text", "label": "label"}}
HEADS = {"llama": "AutoModelForCausalLM", "bert": "AutoModelForSequenceClassification"}


def job_of(
    name: str, *, layers: int | None, lengths: list[int], acceleration: str, fake: bool = True, tiny: bool = False
) -> TrainingJob:
    """A job that takes steps on one batch of texts: LoRA on all layers of a base in bfloat16, under autocast."""
    import transformers

    from peftlab.core.method import METHODS, MethodContext
    from peftlab.core.task import TASKS
    from peftlab.recipe.schema import Recipe

    config = config_of(name, tiny=tiny)
    config.num_hidden_layers = layers or config.num_hidden_layers
    prepare_config(config, dropout=0.0, pad_token_id=0)
    family = config.model_type
    with torch.device("meta") if fake else contextlib.nullcontext():
        model = getattr(transformers, HEADS[family]).from_config(config, dtype=torch.bfloat16)
    prepare(model, acceleration)
    task = TASKS[TASK[family]](**COLUMNS[family])
    method = METHODS["lora"](rank=RANK)
    recipe = Recipe.model_construct(name="counts", method=method, task=task)
    heads = () if family == "llama" else ("classifier",)
    context = MethodContext(
        peft_task_type=task.peft_task_type, total_steps=10, seed=0, head_modules=heads,
        family="decoder" if family == "llama" else "encoder",
    )  # fmt: skip
    for head in heads:
        model.get_submodule(head).float()
    wrapped = method.apply(model, context)
    if fake:
        with FakeTensorMode(allow_non_fake_inputs=True):
            give_fake_tensors(wrapped)
    wrapped.train()
    accelerator = build_shapes_accelerator(torch.bfloat16)
    optimizer = accelerator.prepare(build_optimizer(wrapped, recipe.training, 1e-3))
    examples = [task.placeholder(length, ("no", "yes")) for length in lengths]
    batch = Batch(examples, task.lengths(examples), [list(range(len(examples)))])
    return bare_job(
        recipe, batch, model=accelerator.prepare(wrapped), optimizer=optimizer, accelerator=accelerator, task=task
    )


@contextlib.contextmanager
def on_card(job: TrainingJob) -> Iterator[None]:
    """Compute as on a card: by CUDA's autocast, what has a kernel there as one, and gradients clipped all at once."""
    with (
        as_if_on(CARD),
        as_on_cuda(),
        mock.patch("torch.nn.utils.clip_grad._has_foreach_support", return_value=True),
        as_on_host(masks, "look_at"),
        as_one_kernel(rms_norm, "normalise"),
        as_one_kernel(rms_norm, "gradients_of_norm"),
        accelerated(job.model),
    ):
        yield


def step_of(job: TrainingJob) -> Step:
    """The job's step."""
    return next(iter(job.plan.steps()))


def kept(name: str, acceleration: str, lengths: tuple[int, int] = (256, 512)) -> float:
    """What a token and layer keeps for the backward pass: numbers of 16 bits, in multiples of the hidden size.

    From two lengths and two numbers of layers, so that nothing counts that is kept once.
    """
    found = {}
    for layers in (2, 3):
        for length in lengths:
            job = job_of(name, layers=layers, lengths=[length], acceleration=acceleration)
            watcher = LiveBytes(model_tensors(job.model))
            on_host = job.task.collate(job.split.examples, 0)
            with on_card(job), watcher, job.accelerator.autocast():
                batch = to_device(on_host, torch.device("cpu"))
                before = watcher.current_bytes
                loss = job.task.training_loss(job.model, batch)
                found[layers, length] = watcher.current_bytes - before
            del loss
    short, long = lengths
    both = (found[3, long] - found[2, long]) - (found[3, short] - found[2, short])
    return both / (long - short) / 2 / config_of(name, tiny=False).hidden_size


def kernels(name: str, acceleration: str, layers: int | None, lengths: list[int]) -> dict[str, Any]:
    """Kernels of a whole step, its clipping and its optimizer included, and reads of the head."""
    job = job_of(name, layers=layers, lengths=lengths, acceleration=acceleration)
    step = step_of(job)
    output = job.accelerator.unwrap_model(job.model).get_output_embeddings() if "llama" in name else None
    with on_card(job):
        optimizer_step(job, step)  # the optimizer's state is made here
        counter = StepCounter(None if output is None else output.weight)
        with counter:
            optimizer_step(job, step)
    return {"kernels": counter.total, "head_reads": counter.reads, "most": dict(counter.kernels.most_common(8))}


def waits(name: str, acceleration: str) -> dict[str, int]:
    """Where a step of a small real model would wait for the card; batches are made on the host and do not count."""
    job = job_of(name, layers=2, lengths=[24, 17, 9], acceleration=acceleration, fake=False, tiny=True)
    step, watch = step_of(job), LossWatch(torch.device("cpu"), 1e-3)
    with on_card(job):
        optimizer_step(job, step)
        with WaitCounter() as counter:
            loss, norm, _ = optimizer_step(job, step)
            watch.look(2, loss, *([] if norm is None else [norm]))
    return dict(counter.waits)


PARTS: dict[str, tuple[str, Callable[[str, int | None], Any]]] = {
    "kept_llama_8b": ("× hidden a token and layer", lambda mode, _: round(kept("llama_8b", mode), 2)),
    "kept_llama_3b": ("× hidden a token and layer", lambda mode, _: round(kept("llama_3b", mode), 2)),
    "kept_bert_base": ("× hidden a token and layer", lambda mode, _: round(kept("bert_base", mode), 2)),
    "kernels_bert_base": ("a step", lambda mode, layers: kernels("bert_base", mode, layers, [128] * 7 + [127])),
    "kernels_llama_3b": ("a step", lambda mode, layers: kernels("llama_3b", mode, layers, [1024, 1024])),
    "head_128k_8192": ("reads a step", lambda mode, _: kernels("llama_3b", mode, 1, [8192])),
    "waits_bert": ("a step", lambda mode, _: waits("bert_base", mode)),
    "waits_llama": ("a step", lambda mode, _: waits("llama_3b", mode)),
}


def main() -> None:
    """Count, print a table, and write all of it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], help="Parts whose name begins like this.")
    parser.add_argument("--layers", type=int, help="Of the models whose kernels are counted; all where not given.")
    parser.add_argument("--json", type=Path, help="Where to write the figures.")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    found: dict[str, Any] = {}
    print("| counted | off | auto |\n| --- | ---: | ---: |")
    for name, (unit, count) in PARTS.items():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        found[name] = {mode: count(mode, arguments.layers) for mode in ("off", "auto")}
        print(
            f"| `{name}`, {unit} | {_cell(name, found[name]['off'])} | {_cell(name, found[name]['auto'])} |", flush=True
        )
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"torch": torch.__version__, "measured_on": None, "counted": found}, indent=1)
        )


def _cell(name: str, value: Any) -> str:
    if name.startswith("waits"):
        return str(sum(value.values()))
    if name.startswith("head"):
        return str(value["head_reads"])
    return f"{value['kernels']:,}" if isinstance(value, dict) else str(value)


if __name__ == "__main__":
    main()
