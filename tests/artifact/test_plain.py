"""What a run leaves is used by plain peft and transformers, in a process that cannot import peftlab."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow

PLAIN = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "peftlab":
            raise ImportError("peftlab is not allowed here")

sys.meta_path.insert(0, Blocker())
import peft, torch, transformers

def load(folder, how):
    if how == "auto":
        return peft.AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    if how == "transformers":
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    base_model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1], config=config)
    return peft.PeftModel.from_pretrained(base_model, folder)

out = []
for folder, how, texts in json.load(sys.stdin):
    model = load(folder, how).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    names = transformers.AutoConfig.from_pretrained(folder).id2label
    answers = []
    with torch.inference_mode():
        for text in texts:
            scores = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
            answers.append([names[int(scores.argmax())], scores.tolist()])
    out.append(answers)
print(json.dumps(out))
"""
CASES = [
    ("{type: lora, rank: 4, initialization: pissa}", "peft"),
    ("{type: lora, rank: 4}", "auto"),
    ("{type: adalora}", "peft"),
    ("{type: prefix_tuning}", "peft"),
    ("{type: ia3}", "auto"),
    ("{type: full}", "transformers"),
]


def test_predictions_are_the_same(
    tiny_run: Callable[..., Path], tmp_path: Path, tiny_bert: Path, reviews: Path
) -> None:
    source = reviews.read_text().splitlines()[1:]
    jobs, expected = [], []
    for method, how in CASES:
        run = tiny_run(method)
        rows = [row for row in pq.read_table(run / "predictions.parquet").to_pylist() if row["split"] == "test"]
        texts = [source[row["index"]].rpartition(",")[0] for row in rows]
        jobs.append((str(run / ("model" if how == "transformers" else "adapter")), how, texts))
        expected.append(rows)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(tiny_bert)],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for case, rows, answers in zip(CASES, expected, json.loads(done.stdout), strict=True):
        assert rows
        for row, (prediction, scores) in zip(rows, answers, strict=True):
            assert scores == pytest.approx(row["scores"], abs=1e-4), case
            if abs(row["scores"][0] - row["scores"][1]) > 1e-3:
                assert prediction == row["prediction"], case
