"""Tokenizers for models that start from nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

PADDING, END, UNKNOWN, MASK = "<pad>", "<end>", "<unknown>", "<mask>"
SPECIALS = (PADDING, END, UNKNOWN, MASK)


def word_tokenizer(words: Sequence[str]) -> Any:
    """A tokenizer with one token for each of the words, which stand between blanks."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    numbers = {word: number for number, word in enumerate((*SPECIALS, *words))}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return _wrapped(tokenizer)


def byte_pair_tokenizer(texts: Iterable[str], vocabulary_size: int, *, ends: bool = False) -> Any:
    """A byte-level BPE tokenizer (Sennrich et al. 2016, Radford et al. 2019) that is trained on texts.

    Args:
        texts: To train on.
        vocabulary_size: Tokens at most.
        ends: Whether it puts the end token behind every text, as T5's does.
    """
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts, vocab_size=vocabulary_size, min_frequency=2, special_tokens=list(SPECIALS), show_progress=False
    )
    if ends:
        end = (END, SPECIALS.index(END))
        tokenizer._tokenizer.post_processor = TemplateProcessing(single=f"$A {END}", special_tokens=[end])
    return _wrapped(tokenizer._tokenizer)


def _wrapped(tokenizer: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        eos_token=END,
        bos_token=END,
        unk_token=UNKNOWN,
        mask_token=MASK,
        clean_up_tokenization_spaces=False,
    )
