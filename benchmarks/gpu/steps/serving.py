"""Four adapters on one bfloat16 base: asked all at once, each answers as it does alone."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps.material import code, labelled, pieces, prose, write_rows
from benchmarks.gpu.steps.models import model_folder
from benchmarks.gpu.steps.recipes import command, run_command, start_several, write_recipe
from benchmarks.gpu.steps.step import Findings, run_step
from benchmarks.serving.load import PATIENCE, Service

RULES: tuple[Callable[[dict[str, str]], bool], ...] = (
    lambda row: row["label"] == "prose",
    lambda row: row["label"] != "prose",
    lambda row: len(row["text"]) > MIDDLE,
    lambda row: len(row["text"]) <= MIDDLE,
)
"""What each adapter learns to say of a text: others than its neighbours, so that a mix-up would be seen."""
MIDDLE = 60
"""Characters of a text that is neither short nor long."""
CLIENTS = 8
TOLERANCE = 0.02
"""Of two scores: in bfloat16, the same text in another batch is rounded in another way (8 bits of a logit)."""


def main(findings: Findings) -> None:
    """Tune four adapters, ask each alone, then all at once."""
    folder = findings.empty_folder()
    texts = pieces(prose() + code(), 12 if findings.is_tiny else 48, shortest=3, longest=40, seed=7)
    runs, alone = tune_and_ask_alone(findings, texts, folder)
    # A busy CPU is waited for; a card that hangs is told.
    with Service(runs, *(("--timeout", str(PATIENCE)) if findings.is_tiny else ())) as service:
        together = ask_together(service, runs, texts)
        stopped = service.stop()
    findings.note("service_exit_code", stopped)
    differences, wrong = compare(alone, together)
    findings.note("requests", len(differences))
    findings.note("greatest_difference_of_scores", max(differences))
    findings.note("adapters_differ", differ(alone))
    for problem in wrong[:5]:
        findings.fail(problem)
    if stopped != 0:
        findings.fail(f"the service ended with exit code {stopped}")
    if not findings.results["adapters_differ"]:
        findings.fail("two adapters give the same answers, so that a mix-up would not be seen")
    findings.line = f"{len(differences)} answers as alone, up to {max(differences):.1e}"


def tune_and_ask_alone(
    findings: Findings, texts: list[str], folder: Path
) -> tuple[dict[str, Path], dict[str, list[dict[str, Any]]]]:
    """Four runs on one base in bfloat16, and what `peftlab predict` of each says of each text."""
    model = model_folder("llama_small", findings.scratch, tiny=findings.is_tiny, device=findings.device)
    rows = labelled(96 if findings.is_tiny else 400, longest=30)
    source = write_rows(folder / "texts.jsonl", [{"text": text} for text in texts])
    runs, lines, answers = {}, [], {}
    for seed in range(len(RULES)):
        name = f"adapter-{seed}"
        own = [{"text": row["text"], "label": "ab"[RULES[seed](row)]} for row in rows]
        data = write_rows(folder / f"{name}.jsonl", own)
        values = {
            "name": name,
            "seed": seed,
            "measure": False,
            "model": {"path": model, "dtype": "bfloat16"},
            "task": {"type": "text_classification", "max_length": 64},
            "data": {"source": data, "max_validation_examples": 16, "max_test_examples": 16, "split_seed": 0},
            "method": {"type": "lora", "rank": 4, "target_modules": "all-linear"},
            "training": {"max_steps": 20, "batch_size": 8, "learning_rate": 2e-2},
        }
        runs[name], answers[name] = folder / name, folder / f"{name}.answers.jsonl"
        lines.append(run_command(write_recipe(folder / f"{name}.yaml", values), runs[name]))
        lines.append(command("predict", runs[name], "--input", source, "--output", answers[name], "--offline"))
    exit_code = start_several(lines).wait()
    if exit_code != 0:
        raise RuntimeError(f"the adapters could not be tuned and asked: exit code {exit_code}")
    told = {name: path.read_text(encoding="utf-8").splitlines() for name, path in answers.items()}
    return runs, {name: [json.loads(line) for line in own] for name, own in told.items()}


def ask_together(service: Service, runs: dict[str, Path], texts: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The same texts, from several clients at once, so that batches hold texts of several adapters."""

    def ask(job: tuple[str, str]) -> dict[str, Any]:
        name, text = job
        status, body = service.request("POST", "/v1/predict", json.dumps({"adapter": name, "texts": [text]}).encode())
        return {"status": status, **json.loads(body)}

    jobs = [(name, text) for text in texts for name in runs]
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        answers = dict(zip(jobs, pool.map(ask, jobs), strict=True))
    return {name: [answers[name, text] for text in texts] for name in runs}


def compare(alone: dict[str, list[dict]], together: dict[str, list[dict]]) -> tuple[list[float], list[str]]:
    """The greatest difference of scores of each answer, and what is wrong."""
    differences, wrong = [], []
    for name, expected in alone.items():
        for at, (own, other) in enumerate(zip(expected, together[name], strict=True)):
            if other["status"] != 200:
                wrong.append(f"{name}, text {at}: status {other['status']}: {json.dumps(other)[:200]}")
                differences.append(1.0)
                continue
            answer = other["predictions"][0]
            differences.append(max(abs(own["scores"][label] - answer["scores"][label]) for label in own["scores"]))
            if differences[-1] > TOLERANCE:
                wrong.append(f"{name}, text {at}: {answer['scores']} among others, {own['scores']} alone")
    return differences, wrong


def differ(alone: dict[str, list[dict]]) -> bool:
    """Whether every two adapters differ by more than rounding on some text."""
    names = list(alone)
    return all(
        any(
            abs(one["scores"][label] - two["scores"][label]) > 2 * TOLERANCE
            for one, two in zip(alone[a], alone[b], strict=True)
            for label in one["scores"]
        )
        for place, a in enumerate(names)
        for b in names[:place]
    )


if __name__ == "__main__":
    run_step(main)
