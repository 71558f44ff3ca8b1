"""Hold estimates against measurements: ``python benchmarks/memory/compare.py [--only WORDS] [--output FILE]``.

Each case is estimated from shapes, and then really built and trained for two steps on CPU under the watcher of live
tensors. Both figures are sums of tensor sizes: they are the same on every machine with these library versions, but for
the choice of CPU kernels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
import transformers
from cases import CASES, PATHS, RANDOM_MODELS, Case

from peftlab.cli.output import quiet_libraries
from peftlab.core.config import Document
from peftlab.core.files import write_text
from peftlab.core.method import MethodContext
from peftlab.estimate.bare_job import bare_job, placeholder_batch
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.models.base_model import checkpoint_activations, load_base_model, local_source
from peftlab.preparation.check import CheckedModel, check_model
from peftlab.preparation.rehearsal import rehearse_memory
from peftlab.recipe.schema import build_recipe
from peftlab.training.accelerator import build_accelerator
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.offload import Placement
from peftlab.training.optimizers import build_optimizer

RESULTS = Path(__file__).parent / "results" / "estimates.json"
LABELS = ("a", "b", "c")


def check(case: Case, folder: Path) -> CheckedModel:
    """The case as a recipe whose model has been looked at."""
    values = {
        "model": {"path": PATHS.get(case.model) or str(folder / case.model)},
        "task": {"type": case.task, "max_length": case.length},
        "data": {"source": "none.csv"},
        "method": {"type": case.method},
        "training": {"batch_size": case.batch_size},
    }
    for key, value in case.settings.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    document = Document(source="case", values=values)
    return check_model(build_recipe(document, default_name="case"), document, offline=True)


def estimate(case: Case, checked: CheckedModel) -> int:
    """Peak bytes of training, from shapes."""
    shapes = ShapesOfRecipe(checked, LABELS, Target("cpu", None))
    return shapes.memory(batch_of(case, checked)).memory.peak_bytes


def measure(case: Case, checked: CheckedModel) -> int:
    """Peak bytes of training, for real."""
    with (
        tempfile.TemporaryDirectory() as files,
        Placement(checked.recipe.model.offload, device=torch.device("cpu"), folder=Path(files)) as placement,
    ):
        return train_two_steps(case, checked, placement)


def train_two_steps(case: Case, checked: CheckedModel, placement: Placement) -> int:
    """Peak bytes of the two."""
    recipe, method = checked.recipe, checked.recipe.method
    torch.manual_seed(0)
    base = load_base_model(
        local_source(checked.model_location),
        recipe.model,
        recipe.task.head(LABELS),
        dtype=torch.float32,
        dropout=None if method.trains_base else 0.0,
        pad_token_id=0,
        offline=True,
    )
    context = MethodContext(
        recipe.task.peft_task_type, 1000, head_modules=base.head_modules, family=checked.facts.family
    )
    model = method.apply(base.model, context)
    if recipe.training.gradient_checkpointing:
        checkpoint_activations(base.model, recipe.model)
    precision = recipe.training.precision
    accelerator = build_accelerator(
        computation=getattr(torch, precision) if precision in ("bfloat16", "float16") else None,
        tracking=[],
        folder=Path(),
    )
    model = placement.place(model)
    optimizer = build_optimizer(model, recipe.training, 1e-3)
    job = bare_job(
        recipe,
        batch_of(case, checked),
        model=accelerator.prepare_model(model, device_placement=False),
        optimizer=accelerator.prepare(optimizer),
        accelerator=accelerator,
        task=recipe.task,
    )
    return rehearse_memory(job).peak_bytes


def batch_of(case: Case, checked: CheckedModel):
    """A batch, in micro-batches where the case has some."""
    batch = placeholder_batch(checked.recipe.task, LABELS, size=case.batch_size, length=case.length)
    size = checked.recipe.training.micro_batch_size
    if not isinstance(size, int):
        return batch
    return type(batch)(batch.examples, MicroBatches(size).split(batch.step))


def compare(case: Case, folder: Path) -> dict:
    """A row of the table."""
    checked = check(case, folder)
    begin = time.perf_counter()
    estimated = estimate(case, checked)
    seconds = time.perf_counter() - begin
    measured = measure(case, checked)
    print(
        f"{estimated / measured - 1:+7.2%}  {estimated / 1e6:8.1f} MB  {measured / 1e6:8.1f} MB  {case.name}",
        flush=True,
    )
    return {
        "case": case.name, "model": case.model, "method": case.method, "batch_size": case.batch_size,
        "length": case.length, "settings": case.settings, "estimated_bytes": estimated, "measured_bytes": measured,
        "error": round(estimated / measured - 1, 5), "estimate_seconds": round(seconds, 2),
    }  # fmt: skip


def build_random_models(folder: Path) -> None:
    """Save the models that have a config only."""
    for name, values in RANDOM_MODELS.items():
        config = transformers.AutoConfig.for_model(**values)
        torch.manual_seed(0)
        auto = (
            transformers.AutoModelForCausalLM
            if "Masked" not in values["architectures"][0]
            else transformers.AutoModelForMaskedLM
        )
        auto.from_config(config).save_pretrained(folder / name)


def main() -> None:
    """Run the cases that the table lacks, and write it after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--again", action="store_true", help="also those that the table has")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    quiet_libraries(offline=True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    old = json.loads(options.output.read_text())["rows"] if options.output.exists() else []
    rows = {row["case"]: row for row in old}
    versions = {name: __import__(name).__version__ for name in ("torch", "transformers", "peft", "bitsandbytes")}
    with tempfile.TemporaryDirectory() as folder:
        build_random_models(Path(folder))
        for case in CASES:
            if options.only in case.name and (options.again or case.name not in rows):
                rows[case.name] = compare(case, Path(folder))
                table = [rows[case.name] for case in CASES if case.name in rows]
                write_text(
                    options.output, json.dumps({"versions": versions, "device": "cpu", "rows": table}, indent=1) + "\n"
                )
    errors = [row["error"] for row in rows.values()]
    print(f"{sum(abs(error) <= 0.03 for error in errors)} of {len(errors)} within 3 %; "
          f"lowest {min(errors):+.2%}, highest {max(errors):+.2%}")  # fmt: skip


if __name__ == "__main__":
    main()
