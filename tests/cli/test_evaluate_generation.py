"""`evaluate` gives runs of language tasks the scores of their own evaluation; `predict` cuts prompts as that does."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from peftlab.core.config import replace_config
from peftlab.core.reporter import Silent
from peftlab.core.splits import Split
from peftlab.data.streaming import stream_rows
from peftlab.inference.generate import GenerationOptions, generate
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.predict import answer_rows
from peftlab.recipe.schema import load_recipe
from tests.conftest import sentences

pytestmark = pytest.mark.slow

# Long responses and one step: a random model that has learned to end at once would write nothing.
TASK = "{type: text_generation, max_length: 60, max_new_tokens: 6}"
LONGEST_PROMPT = 54
Run = Callable[..., Path]


def long_and_short_rows() -> list[tuple[str, str]]:
    texts = [text for text, _ in sentences(120, seed=6)]
    rows = [(text, text) for text in texts[:30]]
    rows += [(" ".join(texts[at : at + 8]), texts[at]) for at in range(30, 40)]
    return [*rows, *((prompt, texts[at]) for at, (prompt, _) in enumerate(rows[:5], start=60))]  # second references


ROWS = long_and_short_rows()


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("rows") / "rows.csv", ("prompt", "response"), ROWS)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [(text, text) for text, _ in sentences(40, seed=7)]
    return write_table(tmp_path_factory.mktemp("train") / "train.csv", ("prompt", "response"), rows)


@pytest.fixture(scope="module")
def run(tiny_run: Run, train: Path, table: Path) -> Path:
    return tiny_run(base="gpt2", task=TASK, data=f"{{train: {train}, validation: {table}}}", steps=1)


def as_json(finished: Any) -> Any:
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def own_texts(run: Path) -> dict[int, str]:
    """What the run's own evaluation wrote for rows of the validation split."""
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    return {row["index"]: row["prediction"] for row in rows if row["split"] == "validation"}


def own_scores(run: Path, split: str) -> dict[str, float]:
    scores: dict[str, float] = json.loads((run / "record.json").read_text())["scores"][split]
    return scores


def test_generated_text_is_scored_as_in_the_runs_own_evaluation(command, run: Path, table: Path, monkeypatch) -> None:
    monkeypatch.setattr("peftlab.data.streaming.CHUNK_ROWS", 16)  # rows with one prompt are far from each other
    found = as_json(command("evaluate", run, "--data", table, "--json"))
    expected = own_scores(run, "validation")
    assert {"exact_match", "bleu", "chrf", "rouge_l", "distinct_2", "loss"} <= set(expected)
    assert found["scores"] == pytest.approx(expected, rel=1e-6)
    assert (found["rows"], found["examples"], found["truncated"]) == (45, 40, 10)
    assert set(found["intervals"]) == set(expected)
    for metric, interval in found["intervals"].items():
        assert (interval is None) == (metric not in {"exact_match", "rouge_1", "rouge_2", "rouge_l"})
        if interval is not None:
            assert interval[0] <= expected[metric] <= interval[1]
            assert interval[0] < interval[1]
    shown = command("evaluate", run, "--data", table).stdout
    assert "45 rows, scored as 40 examples" in shown
    assert f"{expected['chrf']:.4f}" in shown
    assert "10 texts were longer" in shown


def test_other_references_give_other_scores(command, run: Path, table: Path, tmp_path: Path) -> None:
    """What is scored is this text against these references, not what the record says."""
    rows = [(ROWS[index][0], text) for index, text in own_texts(run).items() if text]
    answers = write_table(tmp_path / "own.csv", ("prompt", "response"), rows)
    scores = as_json(command("evaluate", run, "--data", answers, "--json"))["scores"]
    assert scores["exact_match"] == 1
    assert own_scores(run, "validation")["exact_match"] < 1


def test_prompts_are_cut_as_in_evaluation_and_the_user_is_told(command, run: Path, table: Path, tmp_path: Path) -> None:
    finished = command("predict", run, "--input", table, "--json")
    answers = as_json(finished)["predictions"]
    seen = own_texts(run)
    assert {index: answers[index]["generated"] for index in seen} == seen
    assert [answer["truncated"] for answer in answers] == [30 <= index < 40 for index in range(45)]
    assert "10 of the prompts did not fit into 60 tokens" in finished.stderr
    tuned = load_tuned(run, offline=True)
    for answer in answers[30:40]:
        ids = tuned.tokenizer(f"{answer['prompt']}\n")["input_ids"]
        assert len(ids) > LONGEST_PROMPT
        (written,) = generate(tuned, [ids[-LONGEST_PROMPT:]], GenerationOptions(6))
        assert answer["generated"] == written.text
    summary = as_json(command("predict", run, "--input", table, "--output", tmp_path / "out.csv", "--json"))
    assert (summary["rows"], summary["truncated"]) == (45, 10)
    shown = command("predict", run, ROWS[0][0], ROWS[30][0])
    assert shown.stdout.count("\n") == 2
    assert "1 of the prompts" in shown.stderr
    assert "of the prompts" not in command("predict", run, ROWS[0][0]).stderr


def test_text_ends_with_the_models_positions_where_the_recipe_asks_for_more(run: Path) -> None:
    tuned = load_tuned(run, offline=True)
    task = replace_config(tuned.task, max_new_tokens=63)
    tuned = replace(tuned, recipe=replace_config(tuned.recipe, task=task))
    rows = [{"prompt": prompt} for prompt, _ in ROWS[25:35]]
    answers = list(answer_rows(tuned, stream_rows("texts", rows, keep=["prompt"]), Silent()))
    columns = {"prompt": [row["prompt"] for row in rows], "response": ["good"] * len(rows)}
    examples = tuned.encode(task.arrange(Split("test", range(len(rows)), columns))).examples
    with torch.inference_mode():
        expected = task.predict_examples(tuned.model, examples, tuned.tokenizer.pad_token_id, tuned.inference)
    assert [answer["generated"] for answer in answers] == [prediction.prediction for prediction in expected]
    assert "length" in {answer["finish_reason"] for answer in answers}


def test_the_loss_of_raw_text_is_that_of_the_run(command, tiny_run: Run, reviews: Path, table: Path) -> None:
    rows = [(text,) for text, _ in sentences(90, seed=8)]
    others = write_table(table.with_name("others.csv"), ("text",), rows)
    for base, task in (("gpt2", "causal_lm"), ("bert", "masked_lm")):
        run = tiny_run(
            base=base,
            task=f"{{type: {task}, max_length: 32}}",
            data=f"{{train: {reviews}, validation: {others}}}",
            steps=2,
        )
        found = as_json(command("evaluate", run, "--data", others, "--json"))
        assert found["scores"] == pytest.approx(own_scores(run, "validation"), rel=1e-6)
        assert found["examples"] < found["rows"] == 90


def test_machines_are_run_as_in_the_test_splits(command, tmp_path: Path) -> None:
    (tmp_path / "machine.yaml").write_text(
        "name: machine\n"
        "model: {from_config: {model_type: gpt2, n_layer: 1, n_head: 2, n_embd: 32, n_positions: 128}}\n"
        "task: {type: turing_machine, machines: [binary_increment], train_runs: 60, validation_runs: 4, test_runs: 6,\n"
        "  tape_length: 6, max_length: 128}\n"
        "method: {type: full}\ntraining: {max_steps: 30, batch_size: 8, learning_rate: 5e-3}\n"
    )
    assert command("run", "machine.yaml", "--output-dir", "run").returncode == 0
    recipe, _ = load_recipe(tmp_path / "run" / "recipe.yaml")
    for name in ("test", "test_longer_tapes"):
        split = recipe.task.make_splits(recipe.seed)[name]
        rows = list(zip(split.columns["machine"], split.columns["tape"], strict=True))
        path = write_table(tmp_path / f"{name}.csv", ("machine", "tape"), rows)
        found = as_json(command("evaluate", "run", "--data", path, "--json"))
        assert found["scores"] == pytest.approx(own_scores(tmp_path / "run", name))
        assert found["rows"] == len(rows) < found["examples"]
    refused = command("predict", "run", "binary_increment\t" + "101" * 60)
    assert refused.returncode == 2
    assert "the model was tuned for 128 at most" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt\na\n", "no column `response`"),
        ("prompt,response\na,\n", "row 1: the column `response`"),
        ("prompt,response\n", "no rows"),
        ("prompt,response\na," + "bad " * 80 + "\n", "row 1: the response has"),
    ],
)
def test_bad_tables(command, run: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "new.csv").write_text(content)
    finished = command("evaluate", run, "--data", tmp_path / "new.csv")
    assert finished.returncode == 2, finished.stderr
    assert message in " ".join(finished.stderr.split())
