"""`predict` for runs that write text: as in evaluation, from arguments, tables and pipes; and what bad input gets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from peftlab.inference.generate import GenerationOptions, generate
from peftlab.inference.load_tuned import load_tuned
from tests.conftest import sentences

pytestmark = pytest.mark.slow

# Long responses and one step: a random model that has learned to end at once would write nothing.
ROWS = [(text, text) for text, _ in sentences(80, seed=4)]
INSTRUCT = "{type: instruction_tuning, max_length: 60, max_new_tokens: 6}"
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "response"), *ROWS])
    return path


@pytest.fixture(scope="module")
def echo(tiny_run: Run, questions: Path) -> Path:
    return tiny_run(base="gpt2", task=INSTRUCT, data=questions, steps=1)


def answers_of(finished) -> list[dict]:
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)["predictions"]


def test_a_prompt_gets_the_text_that_evaluation_saw(command, echo: Path, questions: Path) -> None:
    seen = {
        row["index"]: row["prediction"]
        for row in pq.read_table(echo / "predictions.parquet").to_pylist()
        if row["split"] == "validation"
    }
    answers = answers_of(command("predict", echo, "--input", questions, "--json"))
    assert [answer["index"] for answer in answers] == list(range(len(ROWS)))
    assert {index: answers[index]["generated"] for index in seen} == seen
    assert len(set(seen.values())) > 1
    assert {answer["finish_reason"] for answer in answers} <= {"stop", "length"}


def test_every_way_in_and_out_gives_the_same_texts(command, echo: Path, questions: Path, tmp_path: Path, monkeypatch):
    texts = [text for text, _ in ROWS[:20]]
    expected = [answer["generated"] for answer in answers_of(command("predict", echo, *texts, "--json"))]
    assert len(set(expected)) > 1
    monkeypatch.setattr("peftlab.data.streaming.CHUNK_ROWS", 16)
    monkeypatch.setattr("peftlab.inference.generate.WINDOW_BATCHES", 1)
    for kind, read in (
        ("csv", lambda path: list(csv.DictReader(path.open(newline="")))),
        ("jsonl", lambda path: [json.loads(line) for line in path.read_text().split("\n") if line]),
        ("parquet", lambda path: pq.read_table(path).to_pylist()),
    ):
        output = tmp_path / f"out.{kind}"
        finished = command("predict", echo, "--input", questions, "--output", output)
        assert finished.returncode == 0, finished.stderr
        rows = read(output)
        assert [row["generated"] for row in rows[:20]] == expected
        assert [row["prompt"] for row in rows] == [text for text, _ in ROWS]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("".join(f"{text}\n" for text in texts).encode())))
    lines = command("predict", echo).stdout.split("\n")[:-1]
    shown = [text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") for text in expected]
    assert lines == [f"{written}\t{text}" for written, text in zip(shown, texts, strict=True)]


def test_fewer_new_tokens_are_a_beginning_of_more(command, echo: Path) -> None:
    texts = [text for text, _ in ROWS[:20]]
    short = answers_of(command("predict", echo, *texts, "--json", "--max-new-tokens", 1))
    whole = answers_of(command("predict", echo, *texts, "--json"))
    compared = 0
    for beginning, text in zip(short, whole, strict=True):
        if beginning["generated"] and "\ufffd" not in beginning["generated"]:  # a part of a character is none
            assert text["generated"].startswith(beginning["generated"])
            assert beginning["finish_reason"] == "length"
            compared += 1
    assert compared


def test_what_streams_is_the_whole_text(echo: Path) -> None:
    tuned = load_tuned(echo, offline=True)
    prompts = [tuned.tokenizer(f"{text}\n")["input_ids"] for text, _ in ROWS[:8]]
    options = GenerationOptions(max_new_tokens=12)
    for prompt in prompts:
        pieces: list[str] = []
        (written,) = generate(tuned, [prompt], options, show=pieces.append)
        assert "".join(pieces) == written.text
        assert generate(tuned, [prompt], options) == [written]


def test_generation_ends_when_nobody_waits_for_it(echo: Path) -> None:
    tuned = load_tuned(echo, offline=True)
    prompt = tuned.tokenizer("the film\n")["input_ids"]
    asked = []

    def is_wanted(place: int) -> bool:
        asked.append(place)
        return len(asked) < 3

    generate(tuned, [prompt], GenerationOptions(max_new_tokens=40), is_wanted=is_wanted)
    assert len(asked) <= 3


def test_raw_text_goes_on_as_it_stands(command, tiny_run: Run, reviews: Path) -> None:
    run = tiny_run(base="gpt2", task="{type: causal_lm, max_length: 32}")
    finished = command("predict", run, "the film", "--json", "--max-new-tokens", 5)
    (answer,) = answers_of(finished)
    assert answer["text"] == "the film"
    assert answer["generated"]
    tuned = load_tuned(run, offline=True)
    ids = tuned.tokenizer("the film")["input_ids"]
    assert generate(tuned, [ids], GenerationOptions(5))[0].text == answer["generated"]


def test_machines_are_given_as_machine_and_tape(command, tmp_path: Path) -> None:
    (tmp_path / "machine.yaml").write_text(
        "name: machine\n"
        "model: {from_config: {model_type: gpt2, n_layer: 1, n_head: 2, n_embd: 32, n_positions: 128}}\n"
        "task: {type: turing_machine, machines: [binary_increment], train_runs: 20, validation_runs: 3, test_runs: 3,\n"
        "  tape_length: 6, max_length: 128}\n"
        "method: {type: full}\ntraining: {max_steps: 2, batch_size: 4}\n"
    )
    assert command("run", "machine.yaml", "--output-dir", "run").returncode == 0
    (answer,) = answers_of(command("predict", "run", "binary_increment\t101", "--json", "--max-new-tokens", 4))
    assert (answer["machine"], answer["tape"]) == ("binary_increment", "101")
    for text, message in (("binary_increment", "with a tab between"), ("binary_incremet\t1", "binary_increment`?")):
        finished = command("predict", "run", text)
        assert finished.returncode == 2
        assert message in finished.stderr


def test_bad_input(command, echo: Path, tiny_run: Run, tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_text(
        "".join(json.dumps({"prompt": text}) + "\n" for text in ("the film", "a day " * 60))
    )
    (tmp_path / "empty.jsonl").write_text('{"prompt": "the film"}\n{"prompt": " "}\n')
    (tmp_path / "number.jsonl").write_text('{"prompt": 5}\n')
    (tmp_path / "half.jsonl").write_text('{"prompt": "\\ud800"}\n')
    (tmp_path / "other.jsonl").write_text('{"promt": "the film"}\n')
    masked = tiny_run(task="{type: masked_lm, max_length: 16}")
    classifier = tiny_run()
    for arguments, message in (
        ((echo, "--input", tmp_path / "long.jsonl", "--max-new-tokens", 30), "long.jsonl, row 2: the prompt has"),
        ((echo, "--input", tmp_path / "empty.jsonl"), "empty.jsonl, row 2: the column `prompt` is empty"),
        ((echo, "--input", tmp_path / "number.jsonl"), "row 1: the column `prompt` holds 5, which is not text"),
        ((echo, "--input", tmp_path / "half.jsonl"), "half of a character"),
        ((echo, "--input", tmp_path / "other.jsonl"), "no column `prompt`"),
        ((echo, "the film", "--max-new-tokens", 500), "has room for 0"),
        ((masked, "the film"), "masked_lm learns to fill gaps"),
        ((classifier, "the film", "--max-new-tokens", 5), "text_classification writes no text"),
    ):
        finished = command("predict", *arguments)
        assert finished.returncode == 2, (arguments, finished.stderr)
        assert message in " ".join(finished.stderr.split()), finished.stderr
    assert not list(tmp_path.glob("*.csv"))


def test_a_chat_is_answered_after_its_last_message(command, tiny_gpt2: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tmp_path / "base"
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer.save_pretrained(base)
    AutoModelForCausalLM.from_pretrained(tiny_gpt2).save_pretrained(base)
    chats = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": answer}] for text, answer in ROWS[:40]
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    (tmp_path / "chat.yaml").write_text(
        f"name: chat\nmodel: {{path: {base}}}\n"
        "task: {type: instruction_tuning, messages: messages, max_length: 60, max_new_tokens: 3}\n"
        f"data: {{source: {tmp_path / 'chats.jsonl'}, validation_fraction: 0.3}}\n"
        "method: {type: prompt_tuning, num_virtual_tokens: 2}\ntraining: {max_steps: 4, batch_size: 8}\n"
    )
    finished = command("run", "chat.yaml", "--output-dir", "run")
    assert finished.returncode == 0, finished.stderr
    rows = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
    seen = {row["index"]: row["prediction"] for row in rows if row["split"] == "validation"}
    answers = answers_of(command("predict", "run", "--input", tmp_path / "chats.jsonl", "--json"))
    assert {index: answers[index]["generated"] for index in seen} == seen
    (alone,) = answers_of(command("predict", "run", ROWS[0][0], "--json"))
    assert alone["generated"] == answers[0]["generated"]
    (tmp_path / "open.jsonl").write_text(json.dumps({"messages": [{"role": "assistant", "content": "a"}]}) + "\n")
    refused = command("predict", "run", "--input", tmp_path / "open.jsonl")
    assert refused.returncode == 2
    assert "row 1: the conversation holds nothing" in " ".join(refused.stderr.split())
