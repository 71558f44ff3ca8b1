"""The recipes for one card: their memory is what the tutorial says, and its commands run with a small model in its place."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from peftlab.preparation.check import check_model
from peftlab.recipe.schema import load_recipe
from tests.chat_tokenizers import PLAIN_CHAT, chat_tokenizer
from tests.conftest import Command, sentences
from tests.docs.pages import ROOT, commands

pytestmark = pytest.mark.slow
PAGE = ROOT / "docs" / "tutorials" / "one_card.md"
ELSEWHERE = {"doctor", "init", "serve", "chat"}
"""They have tests of their own, wait for somebody, or look for a small model that is not here."""


@pytest.fixture(scope="module")
def planned() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "memory" / "one_card.py"))


def test_the_page_shows_the_estimates_that_were_written(planned: dict[str, Any]) -> None:
    results, page = json.loads(planned["RESULTS"].read_text()), PAGE.read_text(encoding="utf-8")
    for part in ("recipes", "changes"):
        assert f"<!-- {part} -->\n{planned['render'](results, part)}<!-- end -->" in page
    assert [row["recipe"] for row in results["recipes"]] == [recipe for recipe, _, _ in planned["RECIPES"]]
    assert all(
        row["peak"] < row["card"] * 10**9 for row in results["recipes"]
    )  # each recipe fits the card that it names


def test_an_estimate_is_as_it_was(planned: dict[str, Any], tmp_path: Path) -> None:
    results = json.loads(planned["RESULTS"].read_text())
    recipe, gigabytes, length = planned["RECIPES"][1]
    found = planned["estimate"](recipe, gigabytes, [f"task.max_length={length}", planned["ONE"]], tmp_path)
    assert found["peak"] == pytest.approx(results["recipes"][1]["peak"], rel=0.01)


def test_the_recipes_take_a_model_of_that_shape(planned: dict[str, Any], tmp_path: Path) -> None:
    folder = planned["config_folder"](tmp_path)
    for recipe in {recipe for recipe, _, _ in planned["RECIPES"]}:
        loaded, document = load_recipe(recipe, [f"model.path={folder}"])
        checked = check_model(loaded, document, offline=True, need_weights=False)
        assert (checked.facts.family, checked.recipe.training.micro_batch_size) == ("decoder", "auto")


def test_the_commands_run(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftlab.estimate.search.MOST_QUESTIONS", 2)  # how far a search comes has tests of its own
    torch.manual_seed(0)
    tokenizer = chat_tokenizer(PLAIN_CHAT)
    tokenizer.save_pretrained(tmp_path / "base")
    config = transformers.Qwen2Config(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    transformers.Qwen2ForCausalLM(config).save_pretrained(tmp_path / "base")
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": label}]}
        for text, label in sentences(80)
    ]
    for name, some in {"conversations": rows, "held_out": rows[:8], "new": rows[8:12]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    # On a CPU there is no page of memory to move the optimizer's states to.
    small = ["--set", f"model.path={tmp_path / 'base'}", "--set", "training.optimizer=adamw_8bit"]
    small += ["--set", "training.max_steps=4", "--set", "measure=false", "--set", "waive_guards=[answers_vary]"]
    more = {"run": small, "estimate": small[:4]}
    verbs = []
    for words in commands(PAGE):
        if words[0] not in ELSEWHERE and not any("SmolLM2" in word for word in words):
            done = command(*words, *more.get(words[0], []))
            assert done.returncode == 0, (words, done.stderr)
            verbs.append(words[0])
    assert verbs == ["estimate", "run", "predict", "predict", "evaluate", "export", "export"]
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert (tmp_path / "mine-gguf" / "model.gguf").is_file()
