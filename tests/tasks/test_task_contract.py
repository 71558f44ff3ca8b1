"""Every task of peftlab keeps the contract that plugins keep. A new one is covered by an entry that says what its data
look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from peftlab.core.task import TASKS
from peftlab.testing.plugin_contract import Section
from peftlab.testing.task_contract import Rows, TaskCase, TaskContract
from tests.conftest import sentences
from tests.tasks.test_task_plugin import WORDS

TINY_T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
}


@dataclass(frozen=True)
class Case:
    """How a task is tried: on which tiny model, with which keys, on which rows (None: it makes its own)."""

    model: str | dict[str, Any]
    keys: dict[str, Any]
    rows: Callable[[], Rows] | None
    method: str = "lora"

    def of(self, name: str) -> TaskCase:
        """It as the contract takes it."""
        keys = {key: value for key, value in {"max_length": 48, **self.keys}.items() if value is not None}
        return TaskCase({"type": name.partition("-")[0], **keys}, self.rows, self.model, self.method)


def labelled() -> Rows:
    return [{"text": text, "label": label} for text, label in sentences(64)]


def twin(text: str) -> str:
    return " ".join(WORDS.get(word, word) for word in text.split())


def of_words() -> Rows:
    tags = {"good": "B-GOOD", "bad": "B-BAD"}
    return [
        {"tokens": text.split(), "tags": [tags[label] if word in WORDS else "O" for word in text.split()]}
        for text, label in sentences(64)
    ]


def questions() -> Rows:
    """Which word of the text is good or bad? Of every fourth text that is another one: it has no answer."""
    rows = []
    for at, (text, label) in enumerate(sentences(64)):
        word = next((word for word in text.split() if word in WORDS), None) if at % 4 else None
        answers = {"text": [word], "answer_start": [text.index(word)]} if word else {"text": [], "answer_start": []}
        rows.append({"question": label if word else "film", "context": text, "answers": answers})
    return rows


def digits() -> Rows:
    """Zeros and ones of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(n_class=2, return_X_y=True)
    names = ["zero", "one"]
    rows = zip(images[:64].reshape(-1, 8, 8), classes[:64], strict=True)
    return [{"image": Image.fromarray((image * 15).astype("uint8")), "label": names[label]} for image, label in rows]


def named_digits() -> Rows:
    """Digits with what they are, in words that the tokenizer knows letter by letter."""
    return [{"image": row["image"], "text": f"{row['label']} {at}"} for at, row in enumerate(digits())]


CASES = {
    "text_classification": Case("tiny_bert", {}, labelled),
    "few_shot_classification": Case("tiny_bert", {}, labelled),
    "prompt_classification": Case("tiny_gpt2", {"words": {"good": "great", "bad": "dark and cruel"}}, labelled),
    "text_pair_classification": Case(
        "tiny_bert",
        {"text": ["text", "other"]},
        lambda: [{**row, "other": twin(row["text"])} for row in labelled()],
    ),
    "image_classification": Case("tiny_vit", {"max_length": None}, digits),
    "image_text_embedding": Case("tiny_clip", {}, named_digits),
    "ordinal_classification": Case(
        "tiny_bert",
        {"order": ["bad", "good"], "max_length": 16, "windows": {"stride": 4, "most": 4}},
        lambda: [{**row, "text": f"{row['text']} {row['text']}"} for row in labelled()],
    ),
    "text_regression": Case("tiny_bert", {}, lambda: [{**row, "label": len(row["text"])} for row in labelled()]),
    "token_classification": Case("tiny_bert", {}, of_words),
    "text_embedding": Case(
        "tiny_bert",
        {"query": "text", "document": "other"},
        lambda: [{"text": row["text"], "other": twin(row["text"])} for row in labelled()],
    ),
    "reranking": Case(
        "tiny_bert",
        {"query": "text", "document": "other", "negatives": ["no"]},
        lambda: [{"text": row["text"], "other": twin(row["text"]), "no": row["text"][::-1]} for row in labelled()],
    ),
    "masked_lm": Case("tiny_bert", {"max_length": 16}, labelled),
    "causal_lm": Case("tiny_gpt2", {"max_length": 16}, labelled),
    "text_generation": Case(
        "tiny_gpt2",
        {"max_new_tokens": 4},
        lambda: [{"prompt": row["text"], "response": row["label"]} for row in labelled()],
    ),
    "text_generation-t5": Case(
        {"from_config": TINY_T5},
        {"max_target_length": 16, "max_new_tokens": 4},
        lambda: [{"prompt": row["text"], "response": row["label"]} for row in labelled()],
        method="full",
    ),
    "instruction_tuning": Case(
        "tiny_gpt2",
        {"max_new_tokens": 4},
        lambda: [{"prompt": row["text"], "response": row["label"]} for row in labelled()],
    ),
    "preference_tuning": Case(
        "tiny_gpt2",
        {},
        lambda: [
            {"prompt": row["text"], "chosen": row["label"], "rejected": "bad" if row["label"] == "good" else "good"}
            for row in labelled()
        ],
    ),
    "reward_model": Case(
        "tiny_gpt2",
        {"margin": "by"},
        lambda: [
            {
                "prompt": row["text"],
                "chosen": row["label"],
                "rejected": "bad" if row["label"] == "good" else "good",
                "by": len(row["text"]) % 3,
            }
            for row in labelled()
        ],
    ),
    "question_answering": Case("tiny_bert", {"max_length": 24, "stride": 4, "max_answer_tokens": 2}, questions),
    "reinforcement": Case(
        "tiny_gpt2",
        {
            "max_response_tokens": 4,
            "group_size": 4,
            "rewards": [{"type": "regular_expression", "pattern": "[gd]"}],
        },
        lambda: [{"prompt": row["text"], "response": row["label"]} for row in labelled()],
    ),
    "turing_machine_reinforcement": Case(
        {"from_config": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}},
        {
            "machines": ["binary_increment"],
            "train_runs": 24,
            "validation_runs": 8,
            "test_runs": 8,
            "max_length": 128,
            "max_response_tokens": 4,
            "group_size": 4,
            "rewards": [{"type": "regular_expression", "pattern": "[01]"}],
        },
        None,
        method="full",
    ),
    "turing_machine": Case(
        {"from_config": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}},
        {"machines": ["binary_increment"], "train_runs": 24, "validation_runs": 8, "test_runs": 8, "max_length": 128},
        None,
        method="full",
    ),
}


class TestTasks(TaskContract):
    def sections(self) -> Sequence[Section]:
        return [case.section for case in self.cases()]

    def cases(self) -> Sequence[TaskCase]:
        return [CASES[name].of(name) for name in sorted(CASES)]


def test_there_is_a_case_for_every_task() -> None:
    assert {case.partition("-")[0] for case in CASES} == {
        name for name, task in TASKS.items() if task.__module__.startswith("peftlab.")
    }
