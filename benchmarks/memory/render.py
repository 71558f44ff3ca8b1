"""Write the tables of this folder's README from its results: ``python benchmarks/memory/render.py``."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def megabytes(count: int) -> str:
    """With one decimal."""
    return f"{count / 1e6:,.1f}"


def estimates() -> list[str]:
    """Estimate against measurement, a line for each case."""
    table = json.loads((FOLDER / "results" / "estimates.json").read_text())
    rows = table["rows"]
    errors = [row["estimated_bytes"] / row["measured_bytes"] - 1 for row in rows]
    near = sum(abs(error) <= 0.03 for error in errors)
    versions = ", ".join(f"{name} {version}" for name, version in table["versions"].items())
    return [
        f"{near} of {len(rows)} estimates are within 3 % of the measured peak; the lowest is {min(errors):+.2%} off, "
        f"the highest {max(errors):+.2%}. CPU, {versions}.",
        "",
        "| model | method | batch × length | settings | estimate, MB | measured, MB | error |",
        "|---|---|---|---|---:|---:|---:|",
        *(
            f"| {row['model']} | {row['method']} | {row['batch_size']} × {row['length']} | "
            f"{settings(row)} | "
            f"{megabytes(row['estimated_bytes'])} | {megabytes(row['measured_bytes'])} | {error:+.2%} |"
            for row, error in zip(rows, errors, strict=True)
        ),
    ]


def settings(row: dict) -> str:
    """What the case sets beside its method."""
    words = row["case"].split()
    task = words[2 : words.index(f"{row['batch_size']}x{row['length']}")]
    return ", ".join([*task, *(f"{key.rpartition('.')[2]} {value}" for key, value in row["settings"].items())])


def planning() -> list[str]:
    """The largest micro-batch of each model, way of tuning and card."""
    table = json.loads((FOLDER / "results" / "planning.json").read_text())
    cards = list(table["rows"][0]["largest"])
    return [
        f"Texts of {table['length']} tokens, gradient checkpointing. Numbers are the largest micro-batches "
        "(512 at most); – does not fit.",
        "",
        f"| model | tuning | one text, GB | {' | '.join(cards)} |",
        f"|---|---|---:|{'---:|' * len(cards)}",
        *(
            f"| {row['model']} | {row['variant']} | {row['one_text_bytes'] / 1e9:.1f} | "
            f"{' | '.join(str(row['largest'][card] or '–') for card in cards)} |"
            for row in table["rows"]
        ),
    ]


def fill(text: str, name: str, lines: list[str]) -> str:
    """Put lines between the marks of a table."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{chr(10).join(lines)}\n{end}{after}"


if __name__ == "__main__":
    readme = FOLDER / "README.md"
    text = fill(readme.read_text(encoding="utf-8"), "estimates", estimates())
    readme.write_text(fill(text, "planning", planning()), encoding="utf-8")
