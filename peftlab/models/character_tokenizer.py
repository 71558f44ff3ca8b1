"""A tokenizer whose tokens are characters, for models that start from nothing: BERT's, with a vocabulary of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from peftlab.core.errors import DataError

CHARACTERS = "characters"
"""As ``model.tokenizer``: make one of the training texts. A folder of that name is written ``./characters``."""
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def character_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Any:
    """BERT's tokenizer (Devlin et al. 2019) on single characters, as Chinese BERT models read texts.

    A Chinese character is a word, which BERT parts from others. Characters of other scripts, kana among them, get a
    second token for their places inside a word, so that words are known as such, and no word of known characters is
    unknown.

    Args:
        texts: The training texts; their most frequent characters are the vocabulary, in small letters.
        vocabulary_size: Tokens at most, special ones included.

    Raises:
        DataError: The texts hold no characters.
    """
    from transformers import BertTokenizer

    plain = BertTokenizer(vocab={token: at for at, token in enumerate(SPECIALS)})
    backend = plain.backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
            counts.update([word[0], *(f"##{letter}" for letter in word[1:])])
    if not counts:
        raise DataError("the training texts hold no characters")
    ranked = sorted(counts, key=lambda token: (-counts[token], token))[: max(vocabulary_size - len(SPECIALS), 1)]
    vocabulary = {token: at for at, token in enumerate((*SPECIALS, *ranked))}
    return BertTokenizer(vocab=vocabulary)
