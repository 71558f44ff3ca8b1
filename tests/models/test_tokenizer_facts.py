"""What files tell of a tokenizer is what transformers makes of them: above all, which tokens have no embedding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError

from peftlab.core.errors import SourceError, UserError
from peftlab.models.base_model import load_tokenizer
from peftlab.models.facts import read_model_facts
from peftlab.models.model_config import ModelConfig
from peftlab.models.tokenizer_facts import can_check_vocabulary, check_vocabulary, read_tokenizer_facts


def change(file: Path, **values: object) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **values}))


def old_files(folder: Path) -> None:
    """``vocab.json`` and ``merges.txt``, as GPT-2 had them."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]) + "\n")
    (folder / "tokenizer.json").unlink()
    change(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")


def pad_named(folder: Path) -> None:
    change(folder / "tokenizer_config.json", pad_token="[PAD]")


def pad_as_object(folder: Path) -> None:
    change(folder / "tokenizer_config.json", pad_token={"content": "[PAD]", "lstrip": False, "__type": "AddedToken"})


def pad_in_specials(folder: Path) -> None:
    change(folder / "special_tokens_map.json", pad_token="[PAD]", mask_token="<m>")


def further_specials(folder: Path) -> None:
    change(folder / "tokenizer_config.json", extra_special_tokens=["<a>", "<b>"], sep_token="<sep>")


def old_with_added(folder: Path) -> None:
    old_files(folder)
    at = len(json.loads((folder / "vocab.json").read_text()))
    change(folder / "added_tokens.json", **{"<mention>": at, "<url>": at + 1})


def old_with_named(folder: Path) -> None:
    old_files(folder)
    pad_named(folder)


CHANGES: list[Callable[[Path], None]] = [
    pad_named,
    pad_as_object,
    pad_in_specials,
    further_specials,
    old_files,
    old_with_added,
    old_with_named,
]


@pytest.fixture
def folder(tmp_path: Path, tiny_gpt2: Path) -> Path:
    shutil.copytree(tiny_gpt2, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("given", CHANGES, ids=lambda given: given.__name__)
def test_the_tokens_without_a_row_are_those_that_transformers_finds(
    folder: Path, given: Callable[[Path], None]
) -> None:
    given(folder)
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    loaded = transformers.AutoTokenizer.from_pretrained(folder).get_vocab()
    facts = read_tokenizer_facts(folder)
    assert facts is not None
    read = {token: at for token, at in facts.tokens.items() if at >= rows}
    assert read == {token: at for token, at in loaded.items() if at >= rows}
    assert bool(read) == (given is not old_files)


@pytest.mark.parametrize("given", [pad_named, old_with_added], ids=lambda given: given.__name__)
def test_a_hub_model_is_checked_like_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: Callable[[Path], None]
) -> None:
    given(folder)

    def download(_hub_id: str, file: str, **_: object) -> str:
        if not (folder / file).is_file():
            raise LocalEntryNotFoundError(f"{file} is not there")
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    facts = read_model_facts("someone/model", path="someone/model", offline=True)
    with pytest.raises(UserError, match="embedding rows"):
        check_vocabulary(facts, [])
    for file in folder.iterdir():
        if file.name != "config.json":
            file.unlink()
    assert not can_check_vocabulary(read_model_facts("someone/model", path="someone/model", offline=True))


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def pieces_file(*pieces: str) -> bytes:
    """As SentencePiece writes them: text, score and type of each piece; then its trainer's settings."""
    out = b""
    for piece in pieces:
        text = piece.encode()
        inner = b"\x0a" + varint(len(text)) + text + b"\x15\x00\x00\x80\xbf" + b"\x18\x01"
        out += b"\x0a" + varint(len(inner)) + inner
    settings = b"\x0a\x05a.txt" + b"\x20" + varint(32000)
    return out + b"\x12" + varint(len(settings)) + settings


def test_pieces_of_sentencepiece_are_read(tmp_path: Path) -> None:
    words = ["<unk>", "<s>", "</s>", "▁a", "▁" + "ж" * 100, "e"]
    (tmp_path / "tokenizer.model").write_bytes(pieces_file(*words))
    change(tmp_path / "tokenizer_config.json", pad_token="<pad>", unk_token="<unk>")
    facts = read_tokenizer_facts(tmp_path)
    assert facts is not None
    assert facts.tokens == {**{word: at for at, word in enumerate(words)}, "<pad>": 6}


ENDLESS = b"\x08" + b"\x80" * 3_000_000
"""A number that would take minutes to add up."""


@pytest.mark.parametrize(
    "data", [b"", b"\x0a\xff", b"version https://git-lfs.github.com/spec/v1", b"\x08\x01", ENDLESS], ids=range(5)
)
def test_a_damaged_file_of_pieces_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(SourceError, match=r"tokenizer\.model is damaged"):
        read_tokenizer_facts(tmp_path)


def test_a_word_may_look_like_the_end_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n\u2028\n\x85\nword\n", encoding="utf-8")
    facts = read_tokenizer_facts(tmp_path)
    assert facts is not None
    assert facts.tokens == {"[PAD]": 0, "\u2028": 1, "\x85": 2, "word": 3}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer_config.json", {"do_lower_case": "x"}),
        ("tokenizer.json", {"model": {"type": "WordPiece", "vocab": "auto"}}),
        ("tokenizer.json", {"added_tokens": [{"a": 1}]}),
        ("config.json", {"model_type": []}),
        ("config.json", {"model_type": "unheard", "architectures": 3}),
    ],
    ids=str,
)
def test_files_that_hold_something_else_are_told(
    name: str, values: dict[str, Any], tiny_bert: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "odd"))
    change(folder / name, **values)

    def read() -> None:
        read_model_facts(folder, path="odd")
        load_tokenizer(str(folder), ModelConfig(path="odd"), offline=True)

    with pytest.raises(SourceError) as caught:
        read()
    assert caught.value.where == "odd"
