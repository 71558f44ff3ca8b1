"""Write the tables of this folder's README from its results: ``python benchmarks/gpu/render.py``.

A result is a ``check.json`` in ``results/``, named after its card. What no result tells says "not measured".
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

from benchmarks.gpu.steps.cases import CASES  # noqa: E402 - a script finds the repository first

NOT_MEASURED = "not measured"
MOST_KERNELS = 10
Result = dict[str, Any]


def read_results(folder: Path) -> list[Result]:
    """All checks of a folder, by the names of their files."""
    found = []
    for path in sorted(folder.glob("*.json")):
        result: Result = json.loads(path.read_text(encoding="utf-8"))
        if result["tiny"] or result["device"] != "cuda":
            raise ValueError(f"{path.name} is no check of a GPU at full size: it tells nothing")
        found.append({**result, "card": card_of(result, path.stem)})
    return found


def card_of(result: Result, otherwise: str) -> str:
    """The card's name, and the commit that was checked: a card may have been checked more than once."""
    name = results_of(result, "environment").get("card", {}).get("name", otherwise)
    return f"{name} at {result['commit'][:7]}" if result.get("commit") else str(name)


def results_of(result: Result, step: str) -> Result:
    """What a step has found; nothing where it never ran."""
    found: Result = result["steps"].get(step, {}).get("results", {})
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """In Markdown; the first column is text, the others are figures."""
    if not rows:
        return [NOT_MEASURED]
    align = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(map(str, row))} |" for row in (head, align, *rows)]


def environment(results: Sequence[Result]) -> list[str]:
    """Cards, and what they can do."""
    rows = []
    for result in results:
        found = results_of(result, "environment")
        if "matmul_flops_per_second" not in found:
            rows.append([result["card"], *[NOT_MEASURED] * 6])
            continue
        rates, sheet = found["matmul_flops_per_second"], found["card"]["datasheet"] or {}
        promised = sheet.get("bfloat16_flops_per_second")
        share = f"{rates['bfloat16'] / promised:.0%}" if promised and "bfloat16" in rates else "unknown"
        driver = found["driver"]["driver_version"] if isinstance(found["driver"], dict) else "unknown"
        versions = f"{driver}, {found['versions']['torch']}, {found['versions']['transformers']}"
        copied = f"{found['copy_bytes_per_second']['within_device'] / 1e12:.2f}"
        rows.append([result["card"], versions, *(tera(rates.get(name)) for name in ("bfloat16", "tf32", "float32")),
                     share, copied])  # fmt: skip
    head = [
        "card",
        "driver, torch, transformers",
        "bfloat16, TFLOP/s",
        "TF32",
        "float32",
        "of the datasheet's bfloat16",
    ]
    return table([*head, "copy, TB/s"], rows)


def steps(results: Sequence[Result]) -> list[str]:
    """What became of each step."""
    rows = [
        [result["card"], f"`{name}`", step["status"], step.get("reason") or step.get("line") or ""]
        for result in results
        for name, step in result["steps"].items()
    ]
    return table(["card", "step", "outcome", "found"], rows)


def methods(results: Sequence[Result]) -> list[str]:
    """Every run of every method."""
    rows = []
    for result in results:
        found = [results_of(result, step).get("runs", {}) for step in ("methods_encoder", "methods_decoder", "methods")]
        for name, run in (pair for runs in found for pair in runs.items()):
            guards = run.get("guards", {})
            passed = sum(guard["status"] == "passed" for guard in guards.values())
            speed = (run.get("throughput") or {}).get("tokens_per_second")
            peak = (run.get("memory") or {}).get("peak_bytes")
            rows.append([result["card"], name, run["status"], passed, figure(speed, "{:,.0f}"), giga(peak)])
    return table(["card", "run", "status", "guards passed", "tokens/s", "peak, GB"], rows)


def contests(results: Sequence[Result]) -> list[str]:
    """Side by side, with what others have published."""
    rows = []
    for case in CASES:
        told = [
            (result["card"], results_of(result, f"contest_{case}"))
            for result in results
            if "peftlab" in results_of(result, f"contest_{case}")
        ]
        for card, found in told or [("", {})]:
            ours, theirs = found.get("peftlab", {}), found.get("trainer", {})
            ratios = found.get("peftlab_over_trainer", {})
            rows.append(
                [
                    f"`{case}`",
                    card or NOT_MEASURED,
                    figure(ours.get("tokens_per_second"), "{:,.0f}"),
                    figure(theirs.get("tokens_per_second"), "{:,.0f}"),
                    figure(ratios.get("tokens_per_second"), "{:.2f}"),
                    f"{giga(ours.get('peak_bytes'))} / {giga(theirs.get('peak_bytes'))}",
                    f"{figure(ours.get('mfu_of_datasheet'), '{:.0%}')} / "
                    f"{figure(ours.get('mfu_of_measured_rate'), '{:.0%}')}",
                    published(CASES[case].published),
                ]
            )
    head = ["case", "card", "peftlab, tokens/s", "Trainer, tokens/s", "ratio", "peaks, GB"]
    return table([*head, "MFU of datasheet / measured rate", "published by others"], rows)


def ways(results: Sequence[Result], way: str, against: str) -> list[str]:
    """One way to train a case beside another."""
    rows = []
    for result in results:
        for name in result["steps"]:
            found = results_of(result, name)
            if f"{way}_over_{against}" not in found:
                continue
            plain, own, ratios = found[against], found[way], found[f"{way}_over_{against}"]
            rows.append(
                [
                    result["card"],
                    f"`{name}`",
                    f"{plain['steady_step_seconds'] * 1000:.1f} / {own['steady_step_seconds'] * 1000:.1f}",
                    f"{ratios['steady_speed']:.2f}",
                    f"{plain['tokens_per_second']:,.0f} / {own['tokens_per_second']:,.0f}",
                    f"{giga(plain['peak_bytes'])} / {giga(own['peak_bytes'])}",
                    f"{ratios['most_loss_difference']:.2%}",
                ]
            )
    head = ["card", "step", "ms of a step, without / with", "ratio", "tokens/s of the whole run", "peaks, GB"]
    return table([*head, "losses differ by"], rows)


def published(figures: dict[str, Any]) -> str:
    """What others have measured, and on what."""
    if not figures:
        return "–"
    words = [f"{figures['tokens_per_second']:,} tokens/s"]
    words += [f"{figures['peak_bytes'] / 1e9:.1f} GB"] if "peak_bytes" in figures else []
    words += [f"{figures['mfu']:.0%} MFU"] if "mfu" in figures else []
    return f"{', '.join(words)} on {figures['card']}"


def estimates(results: Sequence[Result]) -> list[str]:
    """Estimate against the allocator's peak."""
    rows = [
        [
            result["card"],
            row["combination"],
            giga(row["estimated"]["peak_bytes"]),
            giga(row["measured"]["peak_bytes"]),
            f"{row['error']:+.1%}",
        ]
        for result in results
        for row in results_of(result, "estimates").get("rows", [])
    ]
    return table(["card", "combination", "estimate, GB", "measured, GB", "error"], rows)


def profile(results: Sequence[Result]) -> list[str]:
    """The longest kernels of a step of the 8B."""
    rows = [
        [result["card"], f"`{kernel['name'][:80]}`", kernel["calls"], f"{kernel['microseconds'] / 1000:.1f}",
         f"{kernel['share']:.1%}"]
        for result in results
        for kernel in results_of(result, "profile").get("kernels", [])[:MOST_KERNELS]
    ]  # fmt: skip
    return table(["card", "kernel", "calls", "ms", "share of all kernels"], rows)


def tera(value: float | None) -> str:
    """TFLOP/s."""
    return figure(None if value is None else value / 1e12, "{:,.0f}")


def giga(value: float | None) -> str:
    """GB."""
    return figure(None if value is None else value / 1e9, "{:.2f}")


def figure(value: float | None, form: str) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else form.format(value)


TABLES: dict[str, Callable[[Sequence[Result]], list[str]]] = {
    "environment": environment,
    "steps": steps,
    "methods": methods,
    "contests": contests,
    "graphs": functools.partial(ways, way="graphs", against="off"),
    "offload": functools.partial(ways, way="offload", against="checkpointed"),
    "estimates": estimates,
    "profile": profile,
}


def render(text: str, results: Sequence[Result]) -> str:
    """The README with its tables filled in."""
    for name, lines in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = "".join([before, begin, "\n".join(lines(results)), "\n", end, after])
    return text


if __name__ == "__main__":
    readme = FOLDER / "README.md"
    readme.write_text(render(readme.read_text(encoding="utf-8"), read_results(FOLDER / "results")), encoding="utf-8")
