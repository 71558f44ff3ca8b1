"""What every selection strategy must keep: it chooses each text once, alike each time, by what it has asked for."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from peftlab.core.errors import PeftlabError
from peftlab.core.registry import Registry
from peftlab.core.selection import STRATEGIES, Candidates, choose
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.chance import asked_twice
from peftlab.testing.plugin_contract import PluginContract, Section

CLASSES = ("a", "b", "c")
EVIDENCE = ("probabilities", "vectors", "labelled_probabilities", "labelled_vectors")


def some_candidates(count: int = 60, labelled: int = 15, size: int = 5) -> Candidates:
    """Texts of which everything is known, drawn at random, and always the same ones."""
    draws = np.random.default_rng(3)

    def probabilities(rows: int) -> Any:
        each = np.exp(2 * draws.normal(size=(rows, len(CLASSES))))
        return each / each.sum(axis=1, keepdims=True)

    return Candidates(
        count,
        CLASSES,
        probabilities=probabilities(count),
        vectors=draws.normal(size=(count, size)),
        labelled_probabilities=probabilities(labelled),
        labelled_vectors=draws.normal(size=(labelled, size)),
    )


def equal_candidates(count: int = 9) -> Candidates:
    """Texts that nothing tells apart."""
    return Candidates(
        count,
        CLASSES,
        probabilities=np.full((count, 3), 1 / 3),
        vectors=np.ones((count, 4)),
        labelled_probabilities=np.full((4, 3), 1 / 3),
        labelled_vectors=np.ones((4, 4)),
    )


class StrategyContract(PluginContract):
    """The tests of a selection strategy. Inherit them in a file that pytest collects, and say which one they are of.

    .. code-block:: python

        from peftlab.testing import StrategyContract


        class TestLeastSure(StrategyContract):
            plugin = {"type": "least_sure"}
    """

    registry: ClassVar[Registry[Any]] = STRATEGIES

    def test_it_chooses_each_text_once_and_alike(self, section: Section) -> None:
        """Some texts, all of them, one, and of texts that nothing tells apart; equal seeds choose alike."""
        for candidates, count in (
            (some_candidates(), 7),
            (some_candidates(), 60),
            (some_candidates(), 1),
            (some_candidates(1), 1),
            (equal_candidates(), 5),
        ):
            told = f"{section['type']}, for {count} of {candidates.count} texts"
            asked_twice(
                told, lambda of=candidates, count=count: self._chosen(section, of, count), source="`generator`"  # type: ignore[misc]
            )  # fmt: skip

    def test_it_looks_at_what_it_names_alone(self, section: Section) -> None:
        """``uses`` says what is computed; all else is empty, and a strategy that reads it would end in an error."""
        uses, whole = self.build(section).uses, some_candidates()
        unknown = sorted(set(uses) - set(EVIDENCE))
        require(
            not unknown,
            f"{section['type']} uses {', '.join(unknown)}",
            hint=f"There are {', '.join(EVIDENCE)}.",
        )
        named: dict[str, Any] = {name: getattr(whole, name) for name in uses}
        require(
            self._chosen(section, Candidates(whole.count, CLASSES, **named), 7) == self._chosen(section, whole, 7),
            f"{section['type']} chooses otherwise where it is given {', '.join(sorted(uses)) or 'the number'} alone",
            hint="Name in `uses` whatever it looks at.",
        )

    def _chosen(self, section: Section, candidates: Candidates, count: int) -> list[int]:
        __tracebackhide__ = True
        whose = f"{section['type']}, for {count} of {candidates.count} texts"
        try:
            choices = choose(self.build(section), candidates, count, seed=1)
        except PeftlabError as error:
            raise BrokenContractError(
                str(error), hint="Give as many choices as are asked for, each of another position."
            ) from None
        except Exception as error:
            raise BrokenContractError(
                f"{whose}: {type(error).__name__}: {error}",
                hint="Does `uses` name all that it looks at? Else that is empty.",
            ) from error
        for choice in choices:
            require(
                isinstance(choice.reason, str) and choice.reason.strip(),
                f"{whose}: no reason is given",
                hint="A person reads it beside the text.",
            )
            require(
                choice.score is None or math.isfinite(choice.score),
                f"{whose}: a score is {choice.score}",
                hint="It is a finite number, or None where there is none.",
            )
        return [int(choice.position) for choice in choices]
