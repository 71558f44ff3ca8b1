"""One case, side by side: transformers' Trainer with peft, and peftlab, by turns, each alone in a fresh process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps.cases import CASES, prepare
from benchmarks.gpu.steps.flops import training_flops_per_token
from benchmarks.gpu.steps.models import config_of
from benchmarks.gpu.steps.step import Findings, run_step
from benchmarks.peers.contest import median_run


def main(findings: Findings) -> None:
    """Run the contestants, and compare."""
    name = findings.settings["case"]
    case = CASES[name]
    folder = findings.empty_folder()
    recipe, model = prepare(name, findings.scratch, folder, tiny=findings.is_tiny, device=findings.device)
    findings.note("recipe", recipe.read_text(encoding="utf-8").replace(str(findings.scratch), "…"))
    findings.note("published", case.published)
    lengths = recipe.parent / "lengths.json"
    options = {"case": name, "recipe": str(recipe), "model": str(model), "device": findings.device}
    options["lengths"] = str(lengths)
    repeats = 1 if findings.is_tiny else case.repeats
    # At tiny sizes nobody looks at times: one process does both, and loads the libraries once.
    together = findings.is_tiny and findings.device == "cpu"
    groups = [case.contestants] if together else [(contestant,) for contestant in case.contestants]
    runs: dict[str, list[dict[str, Any]]] = {contestant: [] for contestant in case.contestants}
    for turn in range(repeats):
        # Both load their libraries at once, which takes as long as the work; then each has the machine alone.
        started = [start(group, turn, options, recipe.parent) for group in groups]
        for process, results in started:
            let_go(process)
            code = process.wait()
            for contestant, result in results.items():
                if result.exists():
                    runs[contestant].append(json.loads(result.read_text(encoding="utf-8")))
            if code != 0:
                findings.fail(f"{' and '.join(results)} ended with exit code {code}")
            findings.note("runs", runs)
            # At once: what is known is told even where the next one is stopped.
            compare(findings, name, runs, json.loads(lengths.read_text(encoding="utf-8")) if lengths.exists() else [])


def start(
    contestants: Sequence[str], turn: int, options: dict[str, Any], folder: Path
) -> tuple[subprocess.Popen[bytes], dict[str, Path]]:
    """Start a process, which waits once its libraries are loaded; and where each of its contestants will write."""
    jobs, results = [], {}
    for contestant in contestants:
        own = folder / f"{contestant}-{turn}"
        own.mkdir(exist_ok=True)
        results[contestant] = own / "result.json"
        jobs.append({**options, "contestant": contestant, "folder": str(own), "result": str(results[contestant])})
    command = [sys.executable, "-m", "benchmarks.gpu.steps.contestant", json.dumps(jobs)]
    return subprocess.Popen(command, stdin=subprocess.PIPE), results


def let_go(process: subprocess.Popen[bytes]) -> None:
    """It is its turn."""
    with contextlib.suppress(OSError, ValueError):  # it has ended already, or it was told before
        process.stdin.write(b"go\n")
        process.stdin.close()


def compare(findings: Findings, name: str, runs: dict[str, list[dict[str, Any]]], lengths: list[int]) -> None:
    """What share of the card's rate each has used, and the ratios."""
    if lengths:
        flops = training_flops_per_token(config_of(CASES[name].model, tiny=findings.is_tiny), lengths)
        findings.note("flops_per_token", flops)
        findings.note("rows", {"count": len(lengths), "mean_tokens": sum(lengths) / len(lengths), "most": max(lengths)})
    chosen = {contestant: median_run(own) for contestant, own in runs.items() if own}
    for contestant, run in chosen.items():
        for rate, per_second in rates(findings).items():
            run[f"mfu_of_{rate}"] = run["tokens_per_second"] * flops / per_second if lengths and per_second else None
        findings.note(contestant, run)
    if "trainer" not in chosen or "peftlab" not in chosen:
        findings.line = "; ".join(
            f"{contestant}: {run['tokens_per_second']:,.0f} tokens/s, peak {run['peak_bytes'] / 1e9:.2f} GB"
            for contestant, run in chosen.items()
        )
        return
    ours, theirs = chosen["peftlab"], chosen["trainer"]
    ratios = {key: ours[key] / theirs[key] for key in ("tokens_per_second", "peak_bytes")}
    findings.note("peftlab_over_trainer", ratios)
    share = ours["mfu_of_datasheet"]
    findings.line = (
        f"{ours['tokens_per_second']:,.0f} tokens/s, {ratios['tokens_per_second']:.2f} × the Trainer's; peak "
        f"{ours['peak_bytes'] / 1e9:.2f} GB, {ratios['peak_bytes']:.2f} ×" + (f"; MFU {share:.0%}" if share else "")
    )


def rates(findings: Findings) -> dict[str, float | None]:
    """Of bfloat16 products: what the datasheet says, and what was measured; None where it is unknown."""
    path = findings.scratch / "found" / "environment.json"
    found = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
    sheet = (found.get("card") or {}).get("datasheet") or {}
    measured = (found.get("matmul_flops_per_second") or {}).get("bfloat16")
    return {"datasheet": sheet.get("bfloat16_flops_per_second"), "measured_rate": measured}


if __name__ == "__main__":
    run_step(main)
