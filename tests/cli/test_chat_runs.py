"""Chats through the real commands: what `validate` refuses, and a date that holds for all that is done with a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import transformers
from chat_tokenizers import CLOCK, FIELDS, PLAIN_CHAT, chat_tokenizer

from peftlab.artifact.saved_folder import read_run_recipe
from peftlab.core.record import read_record
from peftlab.inference import chat as chatting
from peftlab.inference.chat import ChatSession
from peftlab.inference.load_tuned import load_run
from peftlab.recipe.schema import load_recipe
from peftlab.run.reproduce.rerun import reproduce
from peftlab.run.run import run_recipe
from tests.conftest import sentences


def base(folder: Path, template: str | None, **options) -> Path:
    tokenizer = chat_tokenizer(template, **options)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    config.bos_token_id, config.eos_token_id = 0, tokenizer.eos_token_id
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def recipe(folder: Path, model: Path, rows: list[list[dict[str, object]]]) -> Path:
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(
        f"name: chats\nmodel: {{path: {model}}}\n"
        "task: {type: instruction_tuning, messages: messages, max_length: 90, max_new_tokens: 4}\n"
        "data: {source: chats.jsonl, validation_fraction: 0.2}\nmethod: {type: lora}\n"
        "training: {max_steps: 4, batch_size: 8}\nmeasure: false\n"
    )
    return path


def rows_of(**fields: object) -> list[list[dict[str, object]]]:
    return [
        [{"role": "user", "content": text}, {"role": "assistant", "content": label, **fields}]
        for text, label in sentences(30)
    ]


@pytest.mark.parametrize(
    ("template", "rows", "message"),
    [
        (FIELDS, rows_of(reasoning_content="it was"), None),
        (PLAIN_CHAT, rows_of(reasoning_content="it was"), "row 1: the row holds `reasoning_content`"),
        (PLAIN_CHAT, rows_of(weight=2), "row 1: a message has the weight 2"),
        (None, rows_of(), "the model's tokenizer has no chat template"),
    ],
)
def test_validate_tells_what_the_template_cannot_show(command, tmp_path: Path, template, rows, message) -> None:
    finished = command("validate", recipe(tmp_path, base(tmp_path / "base", template), rows))
    assert finished.returncode == (0 if message is None else 2), finished.stderr
    if message is not None:
        assert message in " ".join(finished.stderr.split())


def test_a_clock_in_the_template_stands_where_the_run_began(tmp_path: Path) -> None:
    path = recipe(tmp_path, base(tmp_path / "base", CLOCK), rows_of())
    folder = tmp_path / "run"
    record = run_recipe(*load_recipe(path), output_dir=folder).record
    assert record.status == "success", record.error
    date = record.recipe["task"]["date"]
    assert record.started_at.startswith(date[:16])
    # The clock of the record, not the machine's, from here on: a run of another year.
    older = "2019-05-06T07:08:00"
    for name in ("record.json", "recipe.yaml"):
        (folder / name).write_text((folder / name).read_text().replace(date, older))
    resumed = run_recipe(*load_recipe(path), output_dir=folder, resume=True)
    assert resumed.record.recipe["task"]["date"] == older
    again = reproduce(folder, output_dir=tmp_path / "again")
    assert read_record(again.folder).recipe["task"]["date"] == older
    tuned = load_run(folder, offline=True)
    prompt = tuned.task.conversation_prompt([{"role": "user", "content": "a day"}], tuned.tokenizer)["input_ids"]
    assert tuned.tokenizer.decode(prompt).startswith("Now: 06 May 2019 07:08\n<|im_start|>user\na day")
    session = ChatSession(folder, max_new_tokens=2, offline=True)
    seen: list[list[int]] = []
    session._write = lambda ids, show: seen.append(ids) or ""  # type: ignore[func-returns-value]
    session.answer("a day")
    assert seen == [prompt]
    assert read_run_recipe(again.folder).task.date == older
    # Without a clock nothing is written down, so that equal recipes stay equal.
    path = recipe(tmp_path, base(tmp_path / "plain", PLAIN_CHAT), rows_of())
    assert run_recipe(*load_recipe(path), output_dir=tmp_path / "plain-run").record.recipe["task"]["date"] is None


def test_every_verb_begins_a_prompt_and_writes_alike(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a beginning that the tokenizer adds by itself, and plain prompts."""
    rows = [{"prompt": text, "response": label} for text, label in sentences(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(
        f"name: plain\nmodel: {{path: {base(tmp_path / 'base', None, eos='</s>')}}}\n"
        "task: {type: text_generation, max_length: 60, max_new_tokens: 4}\n"
        "data: {source: rows.jsonl, validation_fraction: 0.3}\nmethod: {type: lora}\n"
        "training: {max_steps: 4, batch_size: 8, learning_rate: 1e-2}\nmeasure: false\n"
    )
    assert command("run", "recipe.yaml", "--output-dir", "run").returncode == 0
    tuned = load_run(tmp_path / "run", offline=True)
    (prompt,) = tuned.task.prompts(_split(rows[0]["prompt"]), tuned.tokenizer)
    assert prompt["input_ids"] == tuned.tokenizer(f"{rows[0]['prompt']}\n")["input_ids"]
    assert prompt["input_ids"][0] == 0
    stored = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
    seen = {row["index"]: row["prediction"] for row in stored if row["split"] == "validation"}
    finished = command("predict", "run", "--input", tmp_path / "rows.jsonl", "--json")
    answers = json.loads(finished.stdout)["predictions"]
    assert {each["index"]: each["generated"] for each in answers if each["index"] in seen} == seen
    index = min(seen)
    pieces: list[str] = []
    session = ChatSession(tmp_path / "run", max_new_tokens=4, offline=True)
    said = session.answer(str(rows[index]["prompt"]), pieces.append)
    assert said.strip() == seen[index]
    assert "".join(pieces) == said
    session.reset()
    asked: list[list[int]] = []
    session._write = lambda ids, show: asked.append(ids) or ""  # type: ignore[func-returns-value]
    session.answer(str(rows[0]["prompt"]))
    assert asked == [prompt["input_ids"]]
    # An answer may be as long as the model has positions, or longer: half of these are the prompt's.
    wide = ChatSession(tmp_path / "run", max_new_tokens=4000, offline=True)
    wide._write = session._write
    wide.answer(str(rows[0]["prompt"]))
    assert asked[1] == prompt["input_ids"]
    drawn = [
        ChatSession(tmp_path / "run", max_new_tokens=12, temperature=2.0, seed=seed, offline=True).answer("a day")
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    # Where the base has no room beside the tuned model, it takes its place.
    real, refused = chatting.load_untuned, list[str]()

    def crowded(*args: Any, **settings: Any) -> Any:
        if not refused:
            refused.append("once")
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, **settings)

    monkeypatch.setattr(chatting, "load_untuned", crowded)
    assert session.choose("none").startswith("The base answers now")
    session.answer("a day")
    assert (refused, len(asked)) == (["once"], 3)


def _split(prompt: str):
    from peftlab.core.splits import Split

    return Split("test", [0], {"prompt": [prompt]}, "rows")
