"""Training steps of recipes on this CPU: seconds, and the share of the matmul rate, of this tree or of two by turns.

    python benchmarks/speed/steps.py [--against COMMIT] [--turns 9] [--steps 8] [--json FILE] [RECIPE…]

Each recipe is prepared by the real ``peftlab run``, once in a process of each tree, which then waits. In a turn each
process takes the same next steps, one process after the other, and measures the matmul rate just before. So what else
the machine does slows both trees alike. Printed are medians over the turns, with the least and the largest.

Utilisation is what ``record.json`` calls ``flops_utilization``: the FLOPs that the steps must do for their tokens,
without padding, by their seconds and the matmul rate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = [f"recipes/tweet_sentiment/minilm_{method}.yaml" for method in ("full", "adalora", "lora")]
WARMUP_STEPS = 3


def serve(recipe: str, steps: int) -> None:
    """Prepare a recipe by the peftlab that is on the path, and take a turn of steps for each line of standard input."""
    import peftlab.run.training_stage as stage
    from peftlab.cli.app import main
    from peftlab.measurement.roofline import measure_matmul_rate
    from peftlab.training.loop import lengths_of, optimizer_step

    def take_turns(job: Any, *_: Any, **__: Any) -> None:
        import torch

        job.model.train()
        plan = job.plan.steps()
        for step in (next(plan) for _ in range(WARMUP_STEPS)):
            optimizer_step(job, step)
        answer({"threads": torch.get_num_threads()})
        for _ in sys.stdin:
            rate = measure_matmul_rate(torch.device("cpu"), torch.float32)
            seconds, flops = [], 0.0
            for step in (next(plan) for _ in range(steps)):
                begin = time.perf_counter()
                *_, work = optimizer_step(job, step)
                seconds.append(time.perf_counter() - begin)
                flops += job.meter._step_flops.of(lengths_of(job, step), work.terms)
            answer({"seconds": sum(seconds) / steps, "utilization": flops / sum(seconds) / rate, "rate": rate})
        os._exit(0)

    def answer(found: dict[str, Any]) -> None:
        print("FOUND " + json.dumps(found), flush=True)

    stage.train = take_turns
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["peftlab", "run", recipe, "--output-dir", f"{folder}/run"]
        main()


class Server:
    """A process that takes steps when it is asked to.

    Args:
        tree: Whose peftlab runs.
        recipe: Of this tree.
        steps: Of a turn.
    """

    def __init__(self, tree: Path, recipe: str, steps: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve", "--steps", str(steps), str(REPOSITORY / recipe)],
            env={**os.environ, "PYTHONPATH": str(tree)}, cwd=tree, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.facts = self._answer()

    def turn(self) -> dict[str, float]:
        """Mean seconds of a step, utilisation, and matmul rate."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("FOUND "):
                return dict(json.loads(line.removeprefix("FOUND ")))
        raise SystemExit(f"a run ended early: {' '.join(map(str, self._process.args))}")  # type: ignore[arg-type]


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A commit's files, as long as the context lasts."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def compare(recipe: str, trees: dict[str, Path], turns: int, steps: int) -> dict[str, Any]:
    """The turns of each tree."""
    servers = {name: Server(tree, recipe, steps) for name, tree in trees.items()}
    found: dict[str, Any] = {name: [] for name in servers}
    try:
        for number in range(turns):
            order = list(servers.items())
            for name, server in order if number % 2 == 0 else reversed(order):
                found[name].append(server.turn())
    finally:
        for server in servers.values():
            server.close()
    return {"threads": servers["new"].facts["threads"], "turns": found}


def middle(values: list[float], shown: str) -> str:
    """Median, least and largest."""
    return f"{statistics.median(values):{shown}} ({min(values):{shown}} to {max(values):{shown}})"


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--against", help="A commit that takes turns with this tree.")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=8, help="Of a turn.")
    parser.add_argument("--json", type=Path, help="Where all turns are written.")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        return serve(chosen.recipes[0], chosen.steps)
    results = {}
    print("| recipe | tree | ms a step | utilisation | old / new, by pairs |\n|---|---|---:|---:|---:|")
    with checkout(chosen.against) if chosen.against else contextlib.nullcontext() as old:
        trees = {**({"old": old} if old is not None else {}), "new": REPOSITORY}
        for recipe in chosen.recipes:
            found = results[recipe] = compare(recipe, trees, chosen.turns, chosen.steps)
            for name, turns in found["turns"].items():
                seconds = [1e3 * turn["seconds"] for turn in turns]
                pairs = zip(found["turns"].get("old", ()), turns, strict=False)
                gains = [one["seconds"] / other["seconds"] for one, other in pairs] if name == "new" else []
                print(
                    f"| {Path(recipe).stem} | {name} | {middle(seconds, '.0f')} "
                    f"| {middle([turn['utilization'] for turn in turns], '.2f')} "
                    f"| {middle(gains, '.2f') if gains else ''} |",
                    flush=True,
                )
    print(f"\n{chosen.turns} turns of {chosen.steps} steps, {next(iter(results.values()))['threads']} threads")
    if chosen.json:
        chosen.json.write_text(json.dumps({"against": chosen.against, "recipes": results}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
