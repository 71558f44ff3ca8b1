"""The card's snippet runs as it stands, in a process that has never heard of peftlab, and gives the run's answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

STRANGER = """
import json, os, sys
sys.modules["peftlab"] = None
import torch

for folder, snippet, text in json.load(sys.stdin):
    os.chdir(folder)
    names = {}
    exec(snippet, names)
    inputs = names["tokenizer"](text, return_tensors="pt")
    with torch.inference_mode():
        print(json.dumps(names["model"].eval()(**inputs).logits.softmax(-1)[0].tolist()), flush=True)
"""
CASES = [
    (method, base)
    for method in ("{type: lora, rank: 4}", "{type: full}", "{type: prefix_tuning}")
    for base in ("bert", "gpt2")
]


def test_the_snippets_load_what_the_runs_left(tiny_run: Callable[..., Path], reviews: Path) -> None:
    jobs, expected, texts = [], [], reviews.read_text().splitlines()[1:]
    for method, base in CASES:
        run = tiny_run(method, base=base)
        folder = run / ("model" if "full" in method else "adapter")
        (snippet,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
        row = pq.read_table(run / "predictions.parquet").to_pylist()[0]
        jobs.append((str(folder), snippet, texts[row["index"]].rpartition(",")[0]))
        expected.append(row["scores"])
    done = subprocess.run([sys.executable, "-c", STRANGER], input=json.dumps(jobs), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    for case, scores, wanted in zip(CASES, told, expected, strict=True):
        assert scores == pytest.approx(wanted, abs=1e-4), case


def test_an_artifact_of_peftlabs_own_form_has_no_snippet(tiny_run: Callable[..., Path]) -> None:
    assert "```python" not in (tiny_run("{type: bitfit}") / "adapter" / "README.md").read_text()
