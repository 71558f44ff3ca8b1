"""Mistakes in augmentations, perturbations, metrics, rewards and strategies: the contract of each kind names them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ConfigDict, PrivateAttr

from peftlab.core.augmentation import AUGMENTATIONS, Augmentation
from peftlab.core.metric import METRICS, Metric
from peftlab.core.perturbation import PERTURBATIONS, Perturbation
from peftlab.core.reward import REWARDS, Reward
from peftlab.core.selection import STRATEGIES, Choice, Strategy
from peftlab.testing import (
    AugmentationContract,
    MetricContract,
    PerturbationContract,
    RewardContract,
    StrategyContract,
)
from peftlab.testing.plugin_contract import PluginContract
from tests.testing.planted import Kinds, check_mistake, mistakes_of, try_all


class Swap(Augmentation):
    """Lets two words change places."""

    def change(self, text: str, random: Any) -> str:
        words = text.split()
        if len(words) < 2:
            return text
        at = random.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
        return " ".join(words)


class DrawsFromTheProgram(Swap):
    """Draws from Python's own generator."""

    def change(self, text: str, random: Any) -> str:
        return text + __import__("random").choice("ab")


class DrawsFromTheClock(Swap):
    """Draws from a generator without a seed."""

    def change(self, text: str, random: Any) -> str:
        return text + str(np.random.default_rng().random())


class CannotTakeEmptyTexts(Swap):
    """Thinks that each text has a word."""

    def change(self, text: str, random: Any) -> str:
        return text.split()[0] + " …"


class RemembersTexts(Swap):
    """Mixes a text with the one before it."""

    _before: list[str] = PrivateAttr(default_factory=list)

    def change(self, text: str, random: Any) -> str:
        self._before.append(text)
        return text if len(self._before) < 2 else f"{text} {self._before[-2]}"


class ForgetsToReturn(Swap):
    """Gives nothing."""

    def change(self, text: str, random: Any) -> Any:
        text.lower()


class ChangesNothing(Swap):
    """Looks for what no text has."""

    def change(self, text: str, random: Any) -> str:
        return text.replace("qqq", "")


class TakesAnyKey(Swap):
    """Takes keys that it does not have."""

    model_config = ConfigDict(extra="ignore")


class Undescribed(Swap):
    """Has a key that nobody explains."""

    share: float = 0.1


class Shout(Perturbation):
    """Capitals."""

    what = "all letters are capitals"

    def change(self, text: str, generator: Any) -> str:
        return text.upper()


class LosesWords(Shout):
    """Leaves words out that have a label."""

    def change_words(self, words: list[str], generator: Any) -> list[str]:
        return words[1:]


class SaysASentence(Shout):
    """Its `what` does not go behind "where"."""

    what = "All letters are capitals."


class Cost(Metric):
    """Share of wrong answers."""

    higher_is_better = False
    range = (0.0, 1.0)
    tasks: ClassVar = ("text_classification",)

    @classmethod
    def per_example(cls, labels: Any, predictions: Any) -> Any:
        return np.array([right != said for right, said in zip(labels, predictions, strict=True)], np.float64)


class WrongWayRound(Cost):
    """Says that wrong answers are good."""

    higher_is_better = True


class OrderCounts(Cost):
    """Pairs each label with another one's prediction."""

    @classmethod
    def per_example(cls, labels: Any, predictions: Any) -> Any:
        return super().per_example(labels[1:] + labels[:1], predictions)


class SortsInPlace(Cost):
    """Changes what it is given."""

    @classmethod
    def per_example(cls, labels: Any, predictions: Any) -> Any:
        labels.sort()
        return super().per_example(labels, predictions)


class NanOfOneClass(Cost):
    """Divides by the number of what is not there."""

    @classmethod
    def per_example(cls, labels: Any, predictions: Any) -> Any:
        return None

    @classmethod
    def score(cls, labels: Any, predictions: Any) -> float:
        rest = [right != said for right, said in zip(labels, predictions, strict=True) if right != labels[0]]
        return float(np.mean(rest)) if rest else float("nan")


class OtherMean(Cost):
    """Its examples have another mean than itself."""

    @classmethod
    def score(cls, labels: Any, predictions: Any) -> float:
        return float(super().per_example(labels, predictions).mean() / 2)


class BeyondItsRange(Cost):
    """Gives percents, and says that they are shares."""

    @classmethod
    def per_example(cls, labels: Any, predictions: Any) -> Any:
        return 100 * super().per_example(labels, predictions)


class ForNobody(Cost):
    """Names no task."""

    tasks: ClassVar = ()


class Contains(Reward):
    """Whether it says yes."""

    def reward(self, answer: Any) -> float:
        return float("yes" in answer.response)


class FailsOnEmptyOnes(Contains):
    """Divides by the length."""

    def reward(self, answer: Any) -> float:
        return 1 / len(answer.response)


class ComparesTheBatch(Contains):
    """Ranks answers among those beside them."""

    def rewards(self, answers: Any) -> Any:
        longest = max(len(answer.response) for answer in answers) or 1
        return [len(answer.response) / longest for answer in answers]


class AlwaysTheSame(Contains):
    """Its word is in no answer."""

    def reward(self, answer: Any) -> float:
        return float("xyzzy" in answer.response)


class LeastSure(Strategy):
    """The least probable ones."""

    @property
    def uses(self) -> Any:
        return frozenset({"probabilities"})

    def select(self, candidates: Any, count: int, generator: Any) -> Any:
        sure = candidates.probabilities.max(axis=1)
        return [Choice(int(at), float(sure[at]), "not sure") for at in sure.argsort()[:count]]


class DoesNotSayWhatItUses(LeastSure):
    """Looks at what it has not asked for."""

    uses: ClassVar = frozenset()


class ChoosesTwice(LeastSure):
    """Draws texts with replacement."""

    def select(self, candidates: Any, count: int, generator: Any) -> Any:
        return [Choice(int(at), None, "drawn") for at in generator.integers(candidates.count, size=count)]


class DrawsFromNumpy(LeastSure):
    """Draws from the program's generator."""

    def select(self, candidates: Any, count: int, generator: Any) -> Any:
        return [Choice(int(at), None, "drawn") for at in np.random.permutation(candidates.count)[:count]]


class GivesNoReason(LeastSure):
    """Says nothing to a person."""

    def select(self, candidates: Any, count: int, generator: Any) -> Any:
        return [Choice(at, None, "") for at in range(count)]


KINDS: Kinds = {
    AugmentationContract: (
        AUGMENTATIONS,
        Swap,
        {
            DrawsFromTheProgram: "it draws from, or seeds, the generator of the whole program (random)\n",
            DrawsFromTheClock: "asked twice, it gives ",
            CannotTakeEmptyTexts: "planted cannot take the text ' ': IndexError: ",
            RemembersTexts: ", and behind other texts ",
            ForgetsToReturn: "planted makes NoneType None of the text 'It is a go",
            ChangesNothing: "planted leaves each of 14 texts as it is",
            TakesAnyKey: "`planted` takes a key that it does not have",
            Undescribed: "the key `share` of `planted` is not described",
        },
    ),
    PerturbationContract: (
        PERTURBATIONS,
        Shout,
        {
            LosesWords: "`change_words` makes 7 words of 8",
            SaysASentence: "`what` is the rest of a sentence",
        },
    ),
    MetricContract: (
        METRICS,
        Cost,
        {
            WrongWayRound: "planted is 0.0 where all is right and ",
            OrderCounts: "of the same ones in another order",
            SortsInPlace: "planted changes the labels or the predictions that it is given",
            NanOfOneClass: "planted is nan of one example",
            OtherMean: ", and the mean of `per_example` ",
            BeyondItsRange: "its range is 0.0 to 1.0",
            ForNobody: "no recipe can ask for planted",
        },
    ),
    RewardContract: (
        REWARDS,
        Contains,
        {
            FailsOnEmptyOnes: "row 4: the reward `planted` raised ZeroDivisionError",
            ComparesTheBatch: "where others are judged with it",
            AlwaysTheSame: "such a reward teaches nothing",
        },
    ),
    StrategyContract: (
        STRATEGIES,
        LeastSure,
        {
            DoesNotSayWhatItUses: "Does `uses` name all that it looks at?",
            ChoosesTwice: "different texts",
            DrawsFromNumpy: "the generator of the whole program (numpy.random)\n",
            GivesNoReason: "no reason is given",
        },
    ),
}


@pytest.mark.parametrize("contract", KINDS, ids=lambda contract: contract.__name__)
def test_a_right_one_passes(contract: type[PluginContract], monkeypatch: pytest.MonkeyPatch) -> None:
    registry, right, _ = KINDS[contract]
    try_all(contract, registry, right, monkeypatch)


@pytest.mark.parametrize(("contract", "mistake"), mistakes_of(KINDS))
def test_each_mistake_is_named(
    contract: type[PluginContract], mistake: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_mistake(KINDS, contract, mistake, monkeypatch)
