"""How often an audit of a model without any fault raises an alarm: 100 whole audits, of simulated models.

    python benchmarks/audit/faultless.py [--audits 100]

Each audit has texts of its own: words drawn at random, 300 audited and 300 trained on. The model knows a text by its
words, so that typing errors and names change nothing. It states probabilities that have nothing to do with the text,
and the right class is drawn from them: no slice is worse, and every probability holds. All parts run that such a model
allows, also those that need a second table (``shift``: another draw) or a column (``group_fairness``, ``errors``:
drawn at random). What is there already is not done again: ``faultless.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.audit.run_audit import build_report, choose_parts, run_parts
from peftlab.audit.word_vectors import word_vectors
from peftlab.core.audit import Audited
from peftlab.core.files import write_text
from peftlab.core.splits import Split
from peftlab.core.task import TASKS, Prediction
from peftlab.core.words import word_set
from peftlab.statistics.proportions import wilson_interval

RESULTS = Path(__file__).with_name("faultless.json")
ROWS = 300
LABELS = ("negative", "neutral", "positive")
SYLLABLES = [first + vowel for first in "bdfgklmnprst" for vowel in "aeiou"]


class SimulatedModel:
    """Knows each text by its words, whatever is done to a few of them."""

    name = "simulated"

    def __init__(self, texts: Sequence[str], probabilities: np.ndarray) -> None:
        self.labels, self.task = LABELS, TASKS["text_classification"]()
        self._probabilities = probabilities
        self._rows: dict[str, list[int]] = {}
        for at, text in enumerate(texts):
            for word in word_set(text):
                self._rows.setdefault(word, []).append(at)

    def predict(self, rows: Split) -> list[Prediction]:
        """The probabilities of the text that shares most words."""
        texts = rows.columns["text"]
        found = []
        for text, label in zip(texts, rows.columns.get("label", [""] * len(texts)), strict=True):
            shared = Counter(at for word in word_set(text) for at in self._rows.get(word, ()))
            scores = self._probabilities[shared.most_common(1)[0][0] if shared else 0]
            found.append(Prediction(label, LABELS[int(scores.argmax())], scores.tolist()))
        return found

    def logits(self, rows: Split) -> np.ndarray:
        """The logarithms of the probabilities."""
        return np.log([each.scores for each in self.predict(rows)])

    def embed(self, rows: Split) -> np.ndarray:
        """Of the words."""
        return word_vectors(rows.columns["text"])

    def log_likelihoods(self, texts: Sequence[str]) -> None:
        """None: it is no language model."""

    def write(self, prompts: Sequence[str]) -> None:
        """None: it writes nothing."""

    def attributions(self, text: str, target: str) -> None:
        """None: it has no gradients."""

    def randomized(self) -> None:
        """None: it has no weights."""


def audit(seed: int) -> dict[str, Any]:
    """One audit, from its texts to its report."""
    generator = np.random.default_rng(seed)
    words = sorted({"".join(generator.choice(SYLLABLES, size=generator.integers(2, 5))) for _ in range(600)})
    lengths = generator.integers(8, 25, size=3 * ROWS)
    texts = [" ".join(generator.choice(words, size=length)) for length in lengths]
    probabilities = generator.dirichlet([0.6, 0.6, 0.6], size=3 * ROWS) * 0.997 + 0.001
    drawn = (generator.random((3 * ROWS, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    labels = [LABELS[at] for at in drawn]

    def split(name: str, start: int) -> Split:
        chosen = slice(start, start + ROWS)
        columns = {
            "text": texts[chosen],
            "label": labels[chosen],
            "source": generator.choice(["app", "mail", "phone"], size=ROWS).tolist(),
        }
        return Split(name, range(ROWS), columns)

    rows, train, other = (split(name, start) for name, start in (("test", 0), ("train", ROWS), ("data", 2 * ROWS)))
    model = SimulatedModel(texts, probabilities)
    settings = ("shift.data=other.csv", "shift.labeled=true", "group_fairness.by=[source]")
    parts = choose_parts([], settings)
    audited = Audited(
        model, rows, model.predict(rows), train, ("source",), seed=seed, read_table=lambda path, need, columns=(): other
    )
    began = time.monotonic()
    found, skipped = run_parts(audited, parts)
    report = build_report(audited, found, skipped, data="simulated", began=began)
    return {
        "alarms": report.alarms,
        "tested": sum(figure.p_value is not None for figure in report.figures.values()),
        "parts": sorted(report.parts),
    }


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audits", type=int, default=100)
    chosen = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"audits": {}}
    for seed in range(chosen.audits):
        if str(seed) in found["audits"]:
            continue
        found["audits"][str(seed)] = audit(seed)
        with_alarm = sum(bool(each["alarms"]) for each in found["audits"].values())
        low, high = wilson_interval(with_alarm, len(found["audits"]))
        found["summary"] = {
            "audits": len(found["audits"]),
            "with_alarm": with_alarm,
            "interval_95": [round(low, 4), round(high, 4)],
            "alarms": dict(Counter(name for each in found["audits"].values() for name in each["alarms"])),
        }
        write_text(RESULTS, json.dumps(found, indent=1) + "\n")
        print(seed, found["audits"][str(seed)]["alarms"], flush=True)


if __name__ == "__main__":
    main()
