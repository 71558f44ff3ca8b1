"""Texts that are too long for their prompt are cut, whatever their tokens are."""

from __future__ import annotations

import pytest
from transformers import BertTokenizer

from peftlab.tasks._tokenizers import byte_pair_tokenizer
from peftlab.tasks.language.user_text import text_tokens
from peftlab.tasks.prompts.cloze import Cloze

PROMPT = "{text} it was {label}."
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "it", "was", "good", ".", "[", "]", "sep"]


def test_special_tokens_that_somebody_wrote_are_cut_as_text() -> None:
    tokenizer = BertTokenizer(vocab={word: at for at, word in enumerate(WORDS)})
    assert len(text_tokens(tokenizer, "[SEP]")) == 3
    place = Cloze(PROMPT, ["text"], tokenizer, is_masked=True, max_length=32).read(["[SEP] " * 200], where="row 1")
    assert place.is_cut
    assert len(place.input_ids) == 32
    assert place.input_ids[place.at] == tokenizer.mask_token_id


@pytest.mark.parametrize("text", ["\U0001f600" * 30, "x\U0001f600 <end>" * 9])
def test_bytes_of_one_character_go_together(text: str) -> None:
    tokenizer = byte_pair_tokenizer(["it was good"] * 5, 300)
    for end in range(1, len(text)):
        place = Cloze(PROMPT, ["text"], tokenizer, is_masked=False, max_length=32).read([text[:end]], where="row 1")
        assert len(place.input_ids) <= 31
