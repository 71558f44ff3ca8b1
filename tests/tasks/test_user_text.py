"""Special tokens in what people write are text, and looking for them does not take longer than tokenising."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from peftlab.tasks._tokenizers import word_tokenizer
from peftlab.tasks.language import user_text


def test_special_tokens_are_listed_once_for_all_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = word_tokenizer(["good", "day"])
    listed: list[Any] = []
    own = user_text.special_tokens
    monkeypatch.setattr(user_text, "special_tokens", lambda given: listed.append(given) or own(given))
    encoded = user_text.encode_as_text(tokenizer, ["good <end> day", "day"] * 20, add_special_tokens=False)
    unknown = tokenizer.unk_token_id
    good, day = tokenizer.convert_tokens_to_ids(["good", "day"])
    assert encoded["input_ids"][:2] == [[good, unknown, unknown, day], [day]]
    assert len(listed) == 1


def test_threads_that_cut_texts_otherwise_do_not_disturb_each_other() -> None:
    """Where a fast tokenizer cuts is a state of its own; in a service, threads share it."""
    tokenizer = word_tokenizer(["good", "day"])
    text = " ".join(["good day"] * 60)

    def length(at: int) -> int:
        limits = {"truncation": True, "max_length": 4 + at % 5} if at % 2 else {}
        return len(user_text.encode_as_text(tokenizer, text, add_special_tokens=False, **limits)["input_ids"])

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(length, range(3000)))
    assert found == [4 + at % 5 if at % 2 else 120 for at in range(3000)]
