"""Tokens of slow tokenizers, which give no offsets, are shown as the user wrote them too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from peftlab.inference.explanation.written import pieces_as_written

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "was", "go", "##od", "a", ",", ".", "caf", "##e"]


@pytest.fixture
def word_pieces(tmp_path: Path) -> Any:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertJapaneseTokenizer(
        tmp_path / "vocab.txt", word_tokenizer_type="basic", subword_tokenizer_type="wordpiece", do_lower_case=True
    )
    assert not tokenizer.is_fast
    return tokenizer


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The FILM was good, 😀 a xay a.", "The FILM was go od , 😀 a xay a ."),
        ("Café zzz qqq the", "Caf é zzz qqq the"),
        ("xyz film 😀😀 good [SEP] was", "xyz film 😀😀 go od [SEP] was"),
        ("😀", "😀"),
        ("the 日本 film", "the 日本 film"),
    ],
)
def test_word_pieces_are_shown_as_they_were_written(word_pieces: Any, text: str, shown: str) -> None:
    ids = word_pieces(text, split_special_tokens=True)["input_ids"]
    pieces = pieces_as_written(word_pieces, ids, [text])
    assert [piece.text for piece in pieces] == ["[CLS]", *shown.split(), "[SEP]"]
    assert [at for piece in pieces for at in piece.positions] == list(range(len(ids)))


def test_pairs_and_cut_texts_keep_their_places(word_pieces: Any) -> None:
    ids = word_pieces("The film 😀", "was 👍 good")["input_ids"]
    shown = [piece.text for piece in pieces_as_written(word_pieces, ids, ["The film 😀", "was 👍 good"])]
    assert shown == ["[CLS]", "The", "film", "😀", "[SEP]", "was", "👍", "go", "od", "[SEP]"]
    cut = [*ids[:3], ids[4]]
    assert [piece.text for piece in pieces_as_written(word_pieces, cut, ["The film 😀"])] == [*shown[:3], "[SEP]"]


def test_bytes_of_one_character_are_one_piece() -> None:
    tokenizer = transformers.ByT5Tokenizer()
    text = "Hi 😀 né"
    pieces = pieces_as_written(tokenizer, tokenizer(text)["input_ids"], [text])
    assert [piece.text for piece in pieces if piece.text.strip("␣ ")] == ["H", "i", "😀", "n", "é", "</s>"]
