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

STRANGER = """
import sys
sys.modules["peftlab"] = None
{snippet}
import torch
inputs = tokenizer({text!r}, return_tensors="pt")
with torch.inference_mode():
    print(model.eval()(**inputs).logits.softmax(-1)[0].tolist())
"""


@pytest.mark.parametrize("base", ["bert", "gpt2"])
@pytest.mark.parametrize("method", ["{type: lora, rank: 4}", "{type: full}", "{type: prefix_tuning}"])
def test_the_snippet_loads_what_the_run_left(
    method: str, base: str, tiny_run: Callable[..., Path], reviews: Path
) -> None:
    run = tiny_run(method, base=base)
    folder = run / ("model" if "full" in method else "adapter")
    (snippet,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    row = pq.read_table(run / "predictions.parquet").to_pylist()[0]
    text = reviews.read_text().splitlines()[1 + row["index"]].rpartition(",")[0]
    done = subprocess.run(
        [sys.executable, "-c", STRANGER.format(snippet=snippet, text=text)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1]) == pytest.approx(row["scores"], abs=1e-4)


def test_an_artifact_of_peftlabs_own_form_has_no_snippet(tiny_run: Callable[..., Path]) -> None:
    assert "```python" not in (tiny_run("{type: bitfit}") / "adapter" / "README.md").read_text()
