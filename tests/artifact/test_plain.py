"""What a run leaves is used by plain peft and transformers, in a process that cannot import peftlab."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from peftlab.recipe import load_recipe
from peftlab.run import run_recipe

PLAIN = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "peftlab":
            raise ImportError("peftlab is not allowed here")

sys.meta_path.insert(0, Blocker())
import peft, torch, transformers

folder, base, how, texts = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
if how == "auto":
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=2)
elif how == "peft":
    config = transformers.AutoConfig.from_pretrained(folder)
    base_model = transformers.AutoModelForSequenceClassification.from_pretrained(base, config=config)
    model = peft.PeftModel.from_pretrained(base_model, folder)
else:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model.eval()
names = transformers.AutoConfig.from_pretrained(folder).id2label
out = []
with torch.inference_mode():
    for text in texts:
        scores = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        out.append([names[int(scores.argmax())], scores.tolist()])
print(json.dumps(out))
"""


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("{type: lora, rank: 4, initialization: pissa}", "peft"),
        ("{type: lora, rank: 4}", "auto"),
        ("{type: adalora}", "peft"),
        ("{type: prefix_tuning}", "peft"),
        ("{type: ia3}", "auto"),
        ("{type: full}", "transformers"),
    ],
)
def test_predictions_are_the_same(method: str, how: str, tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{path: {tiny_bert}}}\ntask: {{type: text_classification, max_length: 32}}\n"
        f"data: {{source: {reviews}}}\nmethod: {method}\ntraining: {{max_steps: 30, batch_size: 8}}\n"
    )
    loaded, document = load_recipe(recipe)
    result = run_recipe(loaded, document, output_dir=tmp_path / "run")
    assert result.record.status == "success", result.record.error
    rows = [
        row for row in pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist() if row["split"] == "test"
    ]
    source = reviews.read_text().splitlines()[1:]
    texts = [source[row["index"]].rpartition(",")[0] for row in rows]
    folder = tmp_path / "run" / ("model" if how == "transformers" else "adapter")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder), str(tiny_bert), how, json.dumps(texts)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for row, (prediction, scores) in zip(rows, json.loads(done.stdout), strict=True):
        assert scores == pytest.approx(row["scores"], abs=1e-4)
        if abs(row["scores"][0] - row["scores"][1]) > 1e-3:
            assert prediction == row["prediction"]
