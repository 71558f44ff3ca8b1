"""A case of the contests in several ways: with CUDA graphs, with compiled blocks, from an offloaded base, and without.

All train on the same texts from the same weights, so their losses agree but for rounding: texts are padded to other
lengths, and compiled kernels round in other places. Each way is compared with the first one.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps.cases import prepare
from benchmarks.gpu.steps.step import Findings, run_step
from peftlab.cli.output import quiet_libraries
from peftlab.core.callback import Callback

STEPS = {"bert_base": 100, "llama_3b": 100, "llama_8b": 15}
"""Of the cases that are known. A model's every length is computed plainly once, then recorded, and then replayed."""
TINY_STEPS = 12
OFF = {"training.cuda_graphs": "off"}
CHECKPOINTED = {**OFF, "training.gradient_checkpointing": "true"}
WAYS: dict[str, dict[str, str]] = {
    "off": OFF,
    "graphs": {"training.cuda_graphs": "on"},  # by itself only models are recorded that are known to gain
    "compile": {**OFF, "training.compile": "blocks"},
    "checkpointed": CHECKPOINTED,
    "offload": {**CHECKPOINTED, "model.offload": "cpu"},
}
IN_USE = {"graphs": "cuda_graphs", "compile": "compiled_blocks"}
"""What the record counts, by the way that uses it."""
ROUNDING = 0.02
"""Of bfloat16, whose numbers are 0.4 to 0.8 % apart, over some steps: what losses may differ by, of the first one."""
COMPILING_SECONDS = 25.0
"""What must be left for compiling to be tried."""


class Watch(Callback):
    """Notes losses, and when they were known: the card's work was done then."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self.times: dict[int, float] = {}

    def on_step(self, step: int, loss: float) -> None:
        """Note it."""
        self.losses[step], self.times[step] = loss, time.perf_counter()


def main(findings: Findings) -> None:
    """Train in each way, and compare."""
    quiet_libraries(offline=True)
    started = time.monotonic()
    case = findings.settings["case"]
    folder = findings.empty_folder()
    recipe, _ = prepare(case, findings.scratch, folder, tiny=findings.is_tiny, device=findings.device)
    steps = TINY_STEPS if findings.is_tiny else STEPS[case]
    found: dict[str, dict[str, Any]] = {}
    for way in findings.settings["ways"]:
        left = findings.settings["seconds"] - (time.monotonic() - started)
        if way == "compile" and (findings.is_tiny or left < COMPILING_SECONDS):
            findings.note(
                way, f"not tried: {left:.0f} s were left" if not findings.is_tiny else "not tried: it is slow"
            )
            continue
        values = WAYS[way]
        if findings.device == "cpu" and "model.offload" in values:
            values = {**values, "model.offload": "disk"}  # to the CPU's memory nothing could be offloaded
        found[way] = train(recipe, folder / way, values, steps=steps)
        findings.note(way, found[way])
        if len(found) > 1:
            compare(findings, way, found)


def train(recipe: Path, folder: Path, settings: dict[str, str], *, steps: int) -> dict[str, Any]:
    """One run, without its rehearsals; its first half, in which graphs are recorded, is not in `steady_seconds`."""
    from peftlab.recipe.schema import load_recipe
    from peftlab.run.run import run_recipe

    values = {"training.max_steps": steps, "training.log_every_steps": max(1, steps // 10), **settings}
    words = ["measure=false", *(f"{key}={value}" for key, value in values.items())]
    loaded, document = load_recipe(recipe, words)
    watch = Watch()
    record = run_recipe(loaded, document, output_dir=folder, offline=True, callbacks=[watch]).record
    if record.status != "success" or record.throughput is None:
        raise RuntimeError(f"the run ended with {record.status}: {record.error}")
    last = max(watch.times)
    middle = max(step for step in watch.times if step <= last // 2)
    return {
        "tokens_per_second": record.throughput.tokens_per_second,
        "padding_fraction": record.throughput.padding_fraction,
        "steady_step_seconds": (watch.times[last] - watch.times[middle]) / (last - middle),
        "peak_bytes": record.phases["train"].peak_memory_bytes,
        "train_seconds": record.phases["train"].seconds,
        "acceleration": record.acceleration,
        "losses": watch.losses,
    }


def compare(findings: Findings, way: str, all_found: dict[str, dict[str, Any]]) -> None:
    """Whether it came to the same as the first way, and how much sooner."""
    against, plain = next(iter(all_found.items()))
    found = all_found[way]
    differences = [abs(found["losses"][step] - loss) for step, loss in plain["losses"].items()]
    most = max(differences) / plain["losses"][1]
    ratio = plain["steady_step_seconds"] / found["steady_step_seconds"]
    findings.note(f"{way}_over_{against}", {"steady_speed": ratio, "most_loss_difference": most})
    if most > ROUNDING:
        findings.fail(f"{way}: losses differ by {most:.1%}, which is more than rounding")
    line = f"{way} {ratio:.2f} × as fast"
    if way in IN_USE:
        told = found["acceleration"].get(IN_USE[way])
        line += f", {told if isinstance(told, int) else 0} in use"
        if findings.device == "cuda" and not isinstance(told, int):
            findings.fail(f"{way} was not used: {told}")
    findings.line = "; ".join([*filter(None, [findings.line]), line])


if __name__ == "__main__":
    run_step(main)
