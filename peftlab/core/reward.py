"""The contract of a reward: a number for what a model has written, by which reinforcement teaches it."""

from __future__ import annotations

import math
import reprlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, SupportsFloat

import pydantic
from pydantic import Field, PositiveFloat, SerializeAsAny

from peftlab.core.config import RegisteredConfig, first_mistake
from peftlab.core.errors import PeftlabError, RunFailedError, UserError, did_you_mean
from peftlab.core.registry import Registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Answer:
    """What a model has written.

    Args:
        prompt: What it was to answer, as the model reads it.
        response: What it wrote, without the tokens that end it.
        expected: The answer that the data hold; empty where they hold none.
        where: The row, for messages.
        prompt_ids: The prompt's tokens.
        response_ids: The response's tokens, with the one that ends it, if one does.
    """

    prompt: str
    response: str
    expected: str
    where: str
    prompt_ids: Sequence[int] = ()
    response_ids: Sequence[int] = ()


class Reward(RegisteredConfig, ABC):
    """A reward. The docstring's first line is what ``peftlab ls rewards`` shows.

    Its fields are the keys of its entry in a recipe's list ``task.rewards``. A new one writes ``reward``, and
    ``rewards`` too where many answers are judged faster together.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    paper: ClassVar[str] = ""
    """Where it comes from: a link."""

    weight: float = Field(1.0, description="What it is multiplied by before all rewards of an answer are added.")
    timeout_seconds: PositiveFloat = Field(60.0, description="When the rewards of one step take longer, the run fails.")

    @property
    def needs_expected(self) -> bool:
        """Whether it judges by the answer that the data hold; then rows without one are refused."""
        return False

    def use_device(self, device: torch.device) -> None:
        """Called before ``begin``, with the device of the model that writes the answers."""

    def begin(self, tokenizer: Any) -> None:
        """Called before the first answer, with the tokenizer of the model that writes them.

        Raises:
            UserError: The reward cannot judge what this model writes.
        """

    @abstractmethod
    def reward(self, answer: Answer) -> float:
        """A finite number, the higher the better."""

    def rewards(self, answers: Sequence[Answer]) -> Sequence[float]:
        """A number for each answer; by default of each by itself."""
        return [self.reward(answer) for answer in answers]

    def count_cut(self, answers: Sequence[Answer]) -> int:
        """How many of these it judges without a part of their text, which is too long for it."""
        return 0


REWARDS: Registry[Reward] = Registry(
    "reward", package="peftlab.rewards", entry_point_group="peftlab.rewards", base=Reward
)


def reward_function(name: str) -> Callable[[Callable[[str, str, str], float]], type[Reward]]:
    """Register a plain function of prompt, response and expected answer as a reward.

    Args:
        name: What recipes write as ``type``.
    """

    def decorate(function: Callable[[str, str, str], float]) -> type[Reward]:
        def reward(_self: Reward, answer: Answer) -> float:
            return function(answer.prompt, answer.response, answer.expected)

        names = {"__doc__": function.__doc__, "__module__": function.__module__, "reward": reward}
        return REWARDS.register(name)(type(function.__name__, (Reward,), names))

    return decorate


def ask_rewards(reward: Reward, answers: Sequence[Answer]) -> list[float]:
    """The rewards of answers, within the time that the reward may take; not yet weighted.

    Raises:
        RunFailedError: It raised, took too long, or gave something that is no finite number; with the row.
    """
    name, judged, failures = reward.registered_name, list[Any](), list[BaseException]()
    one_by_one = type(reward).rewards is Reward.rewards

    def judge() -> None:
        try:
            if one_by_one:
                for answer in answers:
                    judged.append(reward.reward(answer))
            else:
                judged.extend(reward.rewards(answers))
        except BaseException as error:  # noqa: BLE001 - it is told below, in the thread of the run
            failures.append(error)

    # A thread of its own, which nobody waits for at the end: a function that hangs must not hang the run.
    thread = threading.Thread(target=judge, name=f"reward {name}", daemon=True)
    thread.start()
    thread.join(min(reward.timeout_seconds, threading.TIMEOUT_MAX))
    done = len(judged)
    where = answers[min(done, len(answers) - 1)].where if one_by_one else _rows(answers)
    if thread.is_alive():
        raise RunFailedError(
            f"the reward `{name}` has not answered within {reward.timeout_seconds:g} seconds",
            where=where,
            hint="Mend it, or raise its timeout_seconds.",
        )
    if failures:
        error = failures[0]
        if isinstance(error, PeftlabError):
            raise error
        raise RunFailedError(f"the reward `{name}` raised {type(error).__name__}: {error}", where=where) from error
    if done != len(answers):
        raise RunFailedError(f"the reward `{name}` gave {done} numbers for {len(answers)} answers", where=where)
    return [_number(value, name, answer) for value, answer in zip(judged, answers, strict=True)]


def _number(value: Any, name: str, answer: Answer) -> float:
    """A reward as a number, which may be one of numpy's or torch's."""
    try:
        number = float(value) if isinstance(value, SupportsFloat) else math.nan
    except (ArithmeticError, TypeError, ValueError, RuntimeError):  # too large, or a tensor of several numbers
        number = math.nan
    if not math.isfinite(number):
        raise RunFailedError(
            f"the reward `{name}` gave {reprlib.repr(value)} for the response {answer.response!r:.60}",
            where=answer.where,
            hint="A reward is a finite number.",
        )
    return number


def _rows(answers: Sequence[Answer]) -> str:
    rows = list(dict.fromkeys(answer.where for answer in answers))
    return rows[0] if len(rows) == 1 else f"{rows[0]} and {len(rows) - 1} more"


def _build(value: Any) -> Any:
    """A reward from the keys of a recipe."""
    if isinstance(value, Reward):
        return value
    if not isinstance(value, dict) or "type" not in value:
        raise ValueError(f"a reward is a mapping with the key `type`; known: {', '.join(REWARDS.names())}")
    try:
        reward = REWARDS.get(value["type"])
        if unknown := value.keys() - reward.model_fields - {"type"}:
            name = min(map(str, unknown))
            raise ValueError(f"{name}: unknown key. {did_you_mean(name, reward.model_fields)}")
        return reward.model_validate(value)
    except pydantic.ValidationError as error:
        raise ValueError(first_mistake(error)) from None
    except UserError as error:
        raise ValueError(str(error)) from None


REWARD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"type": "string", "description": "A name of `peftlab ls rewards`."}},
    "required": ["type"],
}
"""Stands in a task's schema for any reward; that of a recipe has the registered ones in its place."""

AnyReward = Annotated[
    SerializeAsAny[Reward], pydantic.BeforeValidator(_build), pydantic.WithJsonSchema(dict(REWARD_SCHEMA))
]
"""A reward as a field of a task."""
