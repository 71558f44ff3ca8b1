"""Tokens that a recipe adds: to the tokenizer, and as rows of the embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from peftlab.core.added_rows import embedding_layers

SPREAD = 0.1
"""New rows begin so many standard deviations around the mean row: where a token is expected, and apart."""


def add_to_tokenizer(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Let a tokenizer know tokens, wherever they stand in a text.

    Those that the chat template writes become special, so that no text can hold them; those with a role, such as the
    padding token, stay as they are; all others are words like any other.
    """
    from tokenizers import AddedToken

    roles = {token for key, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    known = set(tokenizer.get_vocab())
    template = json.dumps(tokenizer.chat_template or "", ensure_ascii=False)
    for token in tokens:
        if token not in known:
            tokenizer.add_tokens([AddedToken(token, normalized=False, special=token in template)])
    words = [token for token in tokens if token in known and token not in roles and token not in template]
    if any(tokenizer.added_tokens_decoder[tokenizer.convert_tokens_to_ids(token)].special for token in words):
        _make_words(tokenizer, words)


def ids_of(tokenizer: Any, tokens: Sequence[str]) -> tuple[int, ...]:
    """The ids of added tokens, in their order."""
    return tuple(sorted(int(tokenizer.convert_tokens_to_ids(token)) for token in tokens))


def add_rows(model: Any, ids: Sequence[int]) -> None:
    """Give a model's embeddings rows up to the highest of the ids; new rows are drawn from torch's generator."""
    if not ids:
        return
    embeddings = {id(layer.weight): layer for layer in embedding_layers(model)}
    rows = {key: len(layer.weight) for key, layer in embeddings.items()}
    if max(ids) < min(rows.values()):
        return
    old = min(rows.values())
    model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    with torch.no_grad():
        for weight in {id(layer.weight): layer.weight for layer in embedding_layers(model)}.values():
            known = weight[:old].float()
            drawn = torch.randn_like(weight[old:], dtype=torch.float32)
            weight[old:] = (known.mean(dim=0) + SPREAD * known.std(dim=0) * drawn).to(weight.dtype)


def _make_words(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Special tokens as words: a fast tokenizer keeps the difference in its description alone."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for entry in state["added_tokens"]:
        entry["special"] = entry["special"] and entry["content"] not in tokens
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer._extra_special_tokens = [each for each in tokenizer._extra_special_tokens if str(each) not in tokens]
