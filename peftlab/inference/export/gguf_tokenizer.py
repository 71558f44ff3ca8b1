"""What a GGUF file says of its tokenizer: tokens, merges, and by which rule llama.cpp cuts a text into words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UnsupportedError

if TYPE_CHECKING:
    from gguf import GGUFWriter

GPT2_WORDS = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
SINGLE_DIGITS = {"type": "Digits", "individual_digits": True}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


@dataclass(frozen=True)
class WordRule:
    """How a text is cut into words before pairs of bytes are merged.

    Args:
        steps: Of the pre-tokenizer, as tokenizers writes them.
        takes_whole_words: Whether a word that is a token needs no merges (``ignore_merges``).
    """

    steps: tuple[dict[str, Any], ...]
    takes_whole_words: bool = False


WORD_RULES = {
    "gpt-2": WordRule((GPT2_WORDS,)),
    "smollm": WordRule((SINGLE_DIGITS, GPT2_WORDS)),
    "llama-bpe": WordRule((_split(LLAMA3), BYTES), takes_whole_words=True),
    "qwen2": WordRule((_split(QWEN2), BYTES)),
    "tekken": WordRule((_split(TEKKEN), BYTES), takes_whole_words=True),
}
"""By llama.cpp's name, ``tokenizer.ggml.pre``, as its src/llama-vocab.cpp implements them."""
SPECIAL = ("bos", "eos", "unk", "pad", "sep")


def check_tokenizer(tokenizer: Any) -> str:
    """llama.cpp's name of the rule by which this tokenizer cuts words.

    Raises:
        UnsupportedError: There is none, or the tokenizer does what no GGUF file can say.
    """
    state = _state(tokenizer)
    model = state["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise _refusal(f"its tokens are made by {model['type']} and not from pairs of bytes")
    if (state["normalizer"] or {"type": "NFC"}) != {"type": "NFC"}:
        raise _refusal("it changes texts before it cuts them")
    _added_around(tokenizer)
    steps = _steps(state["pre_tokenizer"])
    for name, rule in WORD_RULES.items():
        if steps == list(rule.steps):
            if bool(model.get("ignore_merges")) != rule.takes_whole_words:
                raise _refusal(f"it merges words otherwise than the rule {name} of llama.cpp")
            return name
    raise _refusal("it cuts words by a rule that is none of " + ", ".join(WORD_RULES))


def write_tokenizer(tokenizer: Any, writer: GGUFWriter, *, rows: int, ends: Sequence[int]) -> None:
    """Write a tokenizer's metadata.

    Args:
        tokenizer: Passed by :func:`check_tokenizer`.
        writer: Of the file.
        rows: Of the embeddings; those without a token get a name that no text has.
        ends: The tokens of which each ends an answer.
    """
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(check_tokenizer(tokenizer))
    tokens, kinds = _tokens(tokenizer, rows)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = _state(tokenizer)["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    for name in SPECIAL:
        number = getattr(tokenizer, f"{name}_token_id", None)
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    for number in ends:
        if number != tokenizer.eos_token_id:  # the file has room for one more; llama.cpp knows the usual ones by name
            writer.add_eot_token_id(number)
            break
    is_first_added, is_last_added = _added_around(tokenizer)
    writer.add_add_bos_token(is_first_added)
    writer.add_add_eos_token(is_last_added)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _added_around(tokenizer: Any) -> tuple[bool, bool]:
    """Whether a text gets the first token before it, and the last one behind it."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for first in (False, True):
        for last in (False, True):
            if whole == [tokenizer.bos_token_id] * first + bare + [tokenizer.eos_token_id] * last:
                return first, last
    raise _refusal("it puts other tokens around a text than its first and its last")


def _tokens(tokenizer: Any, rows: int) -> tuple[list[str], list[int]]:
    """The token of each row of the embeddings, and what kind it is."""
    from gguf import TokenType

    tokens = [f"[PAD{row}]" for row in range(rows)]
    kinds = [int(TokenType.UNUSED)] * rows
    for token, row in tokenizer.get_vocab().items():
        tokens[row], kinds[row] = token, int(TokenType.NORMAL)
    for row, added in tokenizer.added_tokens_decoder.items():
        kinds[row] = int(TokenType.CONTROL if added.special else TokenType.USER_DEFINED)
    return tokens, kinds


def _state(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refusal("it is not one of the package tokenizers")
    state: dict[str, Any] = json.loads(backend.to_str())
    return state


def _steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer and "pretokenizers" in pre_tokenizer else [pre_tokenizer]
    return [_without_offsets(step) for step in steps if step]


def _without_offsets(step: dict[str, Any]) -> dict[str, Any]:
    """What counts of a step: offsets are cut by ``trim_offsets``, tokens are not."""
    return {key: value for key, value in step.items() if key != "trim_offsets"}


OTHER_WAY = (
    "llama.cpp's own script makes the file of a merged export, where it knows the model: `python convert_hf_to_gguf.py "
    "DIR`."
)


def _refusal(why: str) -> UnsupportedError:
    return UnsupportedError(
        f"no GGUF file is written with this tokenizer: {why}",
        hint=OTHER_WAY,
    )
