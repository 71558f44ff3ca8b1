"""What a model's tokenizer files tell without transformers: its tokens, and its chat template."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from peftlab.core.errors import SourceError
from peftlab.core.model_facts import ModelFacts, TokenizerFacts
from peftlab.models.sentencepiece_file import read_pieces

SETTINGS, TOKENIZER, TEMPLATE = "tokenizer_config.json", "tokenizer.json", "chat_template.jinja"
OLD_TEMPLATE, OLD_TOKENS, OLD_SPECIALS = "chat_template.json", "added_tokens.json", "special_tokens_map.json"
WORDS, WORD_IDS = "vocab.txt", "vocab.json"
PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model")
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Tokens with a role, in the order in which transformers adds those that the vocabulary lacks."""
FURTHER = ("additional_special_tokens", "extra_special_tokens")

FindFile = Callable[[str], Path | None]


def read_tokenizer_facts(
    location: Path | str, *, revision: str | None = None, offline: bool = False
) -> TokenizerFacts | None:
    """Read a tokenizer's files.

    Args:
        location: A folder, or a Hub id, whose tokenizer's files are fetched.
        revision: Of a Hub id.
        offline: Read a Hub id from the local cache alone.

    Returns:
        None where there is no file of a tokenizer.

    Raises:
        SourceError: A file is damaged.
    """
    find = _in_folder(location) if isinstance(location, Path) else _on_hub(location, revision, offline)
    settings, tokenizer, specials = _read(find, SETTINGS), _read(find, TOKENIZER), _read(find, OLD_SPECIALS)
    tokens = _tokens(tokenizer or {}) or _vocabulary(find)
    if settings is None and tokenizer is None and not tokens:
        return None
    tokens |= {str(word): int(at) for word, at in (_read(find, OLD_TOKENS) or {}).items()}
    declared = (settings or {}).get("added_tokens_decoder", {})
    tokens |= {str(entry["content"]): int(at) for at, entry in declared.items()}
    if tokens:
        for token in _specials({**(specials or {}), **(settings or {})}):
            tokens.setdefault(token, max(tokens.values()) + 1)
    return TokenizerFacts(tokens, _template(find, settings or {}))


def can_check_vocabulary(facts: ModelFacts) -> bool:
    """Whether a model's files tell before it is loaded if every token has an embedding."""
    return facts.embedding_rows is not None and facts.tokenizer is not None and bool(facts.tokenizer.tokens)


def check_vocabulary(facts: ModelFacts, added: list[str]) -> None:
    """Refuse a tokenizer with tokens for which the model has no embedding: they would end in an IndexError.

    Args:
        facts: Of the model.
        added: Tokens that get a row, as the recipe says.

    Raises:
        SourceError: Naming the first such token.
    """
    rows = facts.embedding_rows
    if rows is None or facts.tokenizer is None or not can_check_vocabulary(facts):
        return
    without = sorted((at, token) for token, at in facts.tokenizer.tokens.items() if at >= rows and token not in added)
    if without:
        raise missing_rows([token for _, token in without], without[0][0], rows)


def missing_rows(tokens: list[str], first_id: int, rows: int) -> SourceError:
    """The error about tokens without an embedding.

    Args:
        tokens: In the order of their ids.
        first_id: Of the first.
        rows: Of the embedding.
    """
    more = f" (and {len(tokens) - 1} more)" if len(tokens) > 1 else ""
    shown = ", ".join(json.dumps(token, ensure_ascii=False) for token in tokens[:8])
    return SourceError(
        f"the tokenizer has the token `{tokens[0]}` with the id {first_id}{more}, and the model has {rows} embedding "
        "rows",
        hint=f"Give them rows that are trained: model.add_tokens: [{shown}{', …' if len(tokens) > 8 else ''}].",
    )


def _tokens(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    vocabulary = (tokenizer.get("model") or {}).get("vocab") or {}
    if isinstance(vocabulary, list):  # Unigram: pairs of a piece and its score
        tokens = {str(piece[0]): at for at, piece in enumerate(vocabulary)}
    else:
        tokens = {str(word): int(at) for word, at in vocabulary.items()}
    return tokens | {str(entry["content"]): int(entry["id"]) for entry in tokenizer.get("added_tokens") or []}


def _vocabulary(find: FindFile) -> dict[str, int]:
    """The vocabulary of a tokenizer without ``tokenizer.json``: a list of words, a map of words, or SentencePiece's."""
    if (file := find(WORDS)) is not None:
        with file.open(encoding="utf-8") as lines:  # a word may be a sign that splitlines() takes for a line's end
            return {line.removesuffix("\n"): at for at, line in enumerate(lines)}
    if (words := _read(find, WORD_IDS)) is not None:
        return {str(word): int(at) for word, at in words.items()}
    for name in PIECES:
        if (file := find(name)) is not None:
            return {piece: at for at, piece in enumerate(read_pieces(file))}
    return {}


def _specials(settings: Mapping[str, Any]) -> list[str]:
    """Special tokens that a tokenizer names; those that its vocabulary lacks get ids behind it when it is loaded."""
    values = [settings.get(key) for key in NAMED]
    for key in FURTHER:
        further = settings.get(key) or []
        values += list(further.values()) if isinstance(further, Mapping) else list(further)
    named = [value.get("content") if isinstance(value, Mapping) else value for value in values]
    return [token for token in named if isinstance(token, str)]


def _template(find: FindFile, settings: Mapping[str, Any]) -> str | None:
    """The chat template; of several all, one after the other."""
    file = find(TEMPLATE)
    if file is not None:
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template") or (_read(find, OLD_TEMPLATE) or {}).get("chat_template")
    if isinstance(template, list):
        return "\n".join(str(entry.get("template", "")) for entry in template)
    return None if template is None else str(template)


def _read(find: FindFile, name: str) -> dict[str, Any] | None:
    file = find(name)
    if file is None:
        return None
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{name} is damaged: {error}", where=str(file.parent)) from None
    return values


def _in_folder(folder: Path) -> FindFile:
    return lambda name: folder / name if (folder / name).is_file() else None


def _on_hub(hub_id: str, revision: str | None, offline: bool) -> FindFile:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    def find(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(hub_id, name, revision=revision, local_files_only=offline))
        except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError):
            return None  # the tokenizer itself is loaded, and checked, when the run begins

    return find
