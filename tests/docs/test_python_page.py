"""The blocks of docs/python.md run one after the other, as they are written; so does the example of `wrap`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoModel

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks_of(page: str, language: str = "python") -> list[tuple[int, str]]:
    """The blocks of a page, each with its first line."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n") + 1, match[1]) for match in found]


def run_block(page: str, line: int, block: str, names: dict[str, Any]) -> None:
    # The lines of a traceback are those of the page.
    exec(compile("\n" * (line - 1) + block, page, "exec"), names)  # noqa: S102


def test_every_block_of_the_page_runs(
    tiny_bert: Path,
    reviews: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "minilm").symlink_to(tiny_bert)
    (tmp_path / "reviews.csv").write_text(reviews.read_text())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for line, block in blocks_of("python.md"):
        run_block("python.md", line, block, names)
    told = capsys.readouterr().out
    ((_, message),) = blocks_of("python.md", "text")
    assert message in told
    assert (
        names["result"].record.status == names["of_frames"].record.status == names["in_hand"].record.status == "success"
    )
    assert "python:rows=180#sha256=" in told
    assert str(tmp_path / "runs" / "in-hand" / "base") in told
    assert (tmp_path / "curves.svg").exists()
    assert isinstance(names["wrapped"], peft.PeftModel)


def test_the_example_of_wrap_in_extending_runs(tiny_bert: Path) -> None:
    ((line, block),) = [(line, block) for line, block in blocks_of("extending.md") if "peftlab.wrap" in block]
    names: dict[str, Any] = {"model": AutoModel.from_pretrained(tiny_bert)}
    run_block("extending.md", line, block, names)
    trained = {name for name, parameter in names["model"].named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
