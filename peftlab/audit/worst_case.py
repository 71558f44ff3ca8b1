"""The worst that a few substituted words can do to an answer, by a greedy search under a budget."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from peftlab.audit.synonyms import built_in_by_word, in_case_of
from peftlab.core.audit import Audited, Figure
from peftlab.core.words import WORD, has_signs
from peftlab.statistics.means import mean_with_interval

MOST_WORDS = 30
"""Of a text that are tried; the search would take too long on long ones."""
SPELLINGS = 4
"""Of a word that are tried."""
EXAMPLES = 5


@dataclass(frozen=True)
class Substitution:
    """How words may be substituted.

    Args:
        name: In the figure's name.
        how: The rest of a sentence.
        fits: Whether there is something that may stand for a word.
        others: What may.
    """

    name: str
    how: str
    fits: Callable[[str], bool]
    others: Callable[[str, random.Random], list[str]]


@dataclass
class _Attack:
    """A text under attack: as it is now, and what may still change."""

    row: int
    text: str
    answer: int
    words: list[str]
    is_flipped: bool = False


def search_worst_case(audited: Audited, kind: Substitution, *, texts: int, budget: int) -> list[Figure]:
    """Which share of the right answers a few changed words turn round.

    The words are tried in the order of what leaving them out does to the answer's probability, and each becomes what
    lowers it most: a spelling one typing error away (after DeepWordBug: Gao et al., 2018,
    https://arxiv.org/abs/1801.04354), or a synonym (after PWWS: Ren et al., 2019,
    https://aclanthology.org/P19-1103). All texts go on together, so that the model reads them in batches.

    Args:
        audited: Of a task with one class a text.
        kind: What words may become.
        texts: How many right answers are attacked.
        budget: Words that may change in each text.

    Returns:
        A figure; none where there are no probabilities, several text columns, or no right answers in whose texts a
        word can be substituted.
    """
    columns = audited.task.text_columns()
    if audited.probabilities is None or audited.classes is None or len(columns) != 1:
        return []
    right, said = audited.classes
    generator = random.Random(audited.seed)  # noqa: S311 - no secret
    able = [
        at for at in np.flatnonzero(right == said).tolist() if isinstance(audited.rows.columns[columns[0]][at], str)
    ]
    able = [at for at in able if any(map(kind.fits, WORD.findall(audited.texts[at])))]
    chosen = sorted(generator.sample(able, min(texts, len(able))))
    if not chosen:
        return []
    attacks = [_Attack(at, audited.texts[at], int(said[at]), []) for at in chosen]
    for attack, words in zip(attacks, _by_importance(audited, attacks, kind), strict=True):
        attack.words = words
    for _ in range(budget):
        _change_one_word(audited, attacks, kind, generator)
    flipped = np.array([attack.is_flipped for attack in attacks], dtype=np.float64)
    mean = mean_with_interval(flipped)
    examples = [audited.example(each.row, changed_text=each.text) for each in attacks if each.is_flipped]
    shown = f"{budget} words" if budget > 1 else "one word"
    return [
        mean.figure(
            f"robustness.{kind.name}.flipped",
            f"Someone who tries can turn {mean.value:.0%} of the right answers round by {kind.how} {shown}.",
            examples=examples[:EXAMPLES],
        )
    ]


def _by_importance(audited: Audited, attacks: list[_Attack], kind: Substitution) -> list[list[str]]:
    """The words of each text that can be substituted, the most important first."""
    words = [list(dict.fromkeys(filter(kind.fits, WORD.findall(each.text))))[:MOST_WORDS] for each in attacks]
    pairs = [(number, word) for number, found in enumerate(words) for word in found]
    rows = [attacks[number].row for number, _ in pairs]
    without = [_replaced(attacks[number].text, word, "") for number, word in pairs]
    scores = _scores(audited, rows, without)
    left: dict[tuple[int, str], float] = {
        pair: float(scores[at, attacks[pair[0]].answer]) for at, pair in enumerate(pairs)
    }
    keys = [{word: left[number, word] for word in found} for number, found in enumerate(words)]
    return [sorted(key, key=key.__getitem__) for key in keys]


def _change_one_word(audited: Audited, attacks: list[_Attack], kind: Substitution, generator: random.Random) -> None:
    """Put the worst that there is in the place of the most important word that is left of each text."""
    open_ones = [each for each in attacks if each.words and not each.is_flipped]
    tries = []
    for attack in open_ones:
        word = attack.words.pop(0)
        tries += [(attack, _replaced(attack.text, word, other)) for other in kind.others(word, generator)]
    scores = _scores(audited, [attack.row for attack, _ in tries], [text for _, text in tries])
    worst: dict[int, tuple[bool, float, str]] = {}
    for (attack, text), row in zip(tries, scores, strict=True):
        # An answer that is turned round is the worst, also where another change leaves the first answer less probable.
        found = (bool(row.argmax() == attack.answer), float(row[attack.answer]), text)
        worst[attack.row] = min(worst.get(attack.row, found), found)
    for attack in open_ones:
        is_kept, _, attack.text = worst[attack.row]
        attack.is_flipped = not is_kept


def _scores(audited: Audited, rows: list[int], texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The probabilities of texts that stand in the place of a row's."""
    if not rows:
        return np.empty((0, len(audited.model.labels)))
    return np.array([each.scores for each in audited.ask(rows, texts)], dtype=np.float64)


def _replaced(text: str, word: str, other: str) -> str:
    found = next(match for match in WORD.finditer(text) if match[0] == word)
    return text[: found.start()] + other + text[found.end() :]


def _misspelt(word: str, generator: random.Random) -> str:
    """The word with two letters swapped, one lost, doubled or another."""
    at = generator.randrange(len(word) - 1)
    kind = generator.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    letters = "的一是不了人我在有他" if has_signs(word) else "abcdefghijklmnopqrstuvwxyz"
    return word[:at] + generator.choice(letters) + word[at + 1 :]


def _is_long(word: str) -> bool:
    return len(word) > 2 or (len(word) > 1 and has_signs(word))


def _spellings(word: str, generator: random.Random) -> list[str]:
    return list(dict.fromkeys(_misspelt(word, generator) for _ in range(SPELLINGS)))


def _synonyms(word: str, generator: random.Random) -> list[str]:
    return [in_case_of(word, other) for other in built_in_by_word()[word.casefold()]]


def _has_synonym(word: str) -> bool:
    return word.casefold() in built_in_by_word()


SUBSTITUTIONS = (
    Substitution("worst_case", "typing errors in", _is_long, _spellings),
    Substitution("worst_synonyms", "synonyms for", _has_synonym, _synonyms),
)
"""What is searched for; the names are those of the figures."""
