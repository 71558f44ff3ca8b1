"""Real text from this repository, and the data sets and tokenizers that are made from it. No download, no weights."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SPECIALS = {"pad_token": "<pad>", "unk_token": "<unknown>", "bos_token": "<begin>", "eos_token": "<end>"}
WORD_SPECIALS = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip


@functools.cache
def prose() -> str:
    """What people wrote for people."""
    return _read(ROOT.glob("*.md"), ROOT.glob("LICENSE"), (ROOT / "benchmarks").glob("*/README.md"))


@functools.cache
def code() -> str:
    """What people wrote for machines."""
    return _read((ROOT / "peftlab").rglob("*.py"))


def _read(*sources: Iterator[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for source in sources for path in sorted(source))


def pieces(text: str, count: int, *, shortest: int, longest: int, seed: int) -> list[str]:
    """Distinct pieces of a text, most of them short, each beginning at a word.

    Args:
        text: To be cut.
        count: How many.
        shortest: Words of the shortest.
        longest: Words of the longest.
        seed: Of places and lengths.
    """
    words, generator = text.split(), random.Random(seed)  # noqa: S311
    found: dict[str, None] = {}
    for _ in range(20 * count):
        if len(found) == count:
            return list(found)
        length = shortest + int((longest - shortest) * generator.random() ** 3)
        start = generator.randrange(len(words) - length)
        found.setdefault(" ".join(words[start : start + length]))
    raise ValueError(f"the text is too short for {count} different pieces")


def labelled(count: int, *, longest: int, seed: int = 0) -> list[dict[str, str]]:
    """Pieces of prose and of code, and which of the two each is."""
    half = count // 2
    rows = [
        {"text": piece, "label": label}
        for label, text in (("prose", prose()), ("code", code()))
        for piece in pieces(text, half, shortest=3, longest=longest, seed=seed)
    ]
    random.Random(seed).shuffle(rows)  # noqa: S311
    return rows


def write_labelled(path: Path, count: int, *, longest: int) -> Path:
    """The same, as a file."""
    return write_rows(path, labelled(count, longest=longest))


def write_responses(path: Path, count: int, *, longest: int, seed: int = 0) -> Path:
    """Prompts and responses: each piece of code, cut after its third part."""
    rows = []
    for piece in pieces(code(), count, shortest=12, longest=longest, seed=seed):
        words = piece.split()
        cut = len(words) // 3
        rows.append({"prompt": " ".join(words[:cut]), "response": " ".join(words[cut:])})
    return write_rows(path, rows)


def write_text(path: Path, *, characters: int) -> Path:
    """Code, as a text file of so many characters at most."""
    path.write_text(code()[:characters], encoding="utf-8")
    return path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save_tokenizer(kind: str, size: int, folder: Path) -> None:
    """Train a tokenizer on the repository's text, and save it as transformers does.

    Args:
        kind: ``words``: WordPiece, as BERT has; ``bytes``: byte-level BPE, as Llama has.
        size: Of the vocabulary, at most.
        folder: To save into.
    """
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
    from transformers import BertTokenizerFast, PreTrainedTokenizerFast

    text = [prose(), code()[:1_000_000]]
    if kind == "words":
        words = BertWordPieceTokenizer()
        words.train_from_iterator(
            text, vocab_size=size, special_tokens=list(WORD_SPECIALS.values()), show_progress=False
        )
        folder.mkdir(parents=True, exist_ok=True)
        words.save_model(str(folder))
        BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
        return
    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(text, vocab_size=size, special_tokens=list(SPECIALS.values()), show_progress=False)
    PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, **SPECIALS).save_pretrained(folder)
