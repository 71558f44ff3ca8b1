"""What a task computes with the model between two steps, such as texts that it writes and learns from.

One roll-out is for a window of steps. A checkpoint within a window holds what was made for the steps that are still to
come; all that is drawn comes from torch's generators. So a resumed run goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from peftlab.core.errors import RunFailedError
from peftlab.core.generators import generator_states, restore_generators
from peftlab.core.splits import EncodedSplit, Example
from peftlab.core.task import Inference, Policy, Task
from peftlab.training.steps import Step

ROW = "row"
"""What an example holds that was drawn beside those of the step: its row in the source."""


def rolls_out(task: Task) -> bool:
    """Whether a task computes anything between steps."""
    return type(task).roll_out is not Task.roll_out


class RollOuts:
    """The roll-outs of a run.

    Args:
        task: Rolls out.
        split: For training.
        inference: How the model is asked.
        pad_token_id: For padding.
        reference: The untouched base; None: the task needs none.
    """

    def __init__(
        self, task: Task, split: EncodedSplit, inference: Inference, pad_token_id: int, reference: nn.Module | None
    ) -> None:
        self._task, self._split, self._inference = task, split, inference
        self._pad, self.reference = pad_token_id, reference
        self._made: dict[int, list[Example]] = {}
        self._window: list[Step] = []
        self.figures: Mapping[str, float] = {}
        """Of the last roll-out, for the metrics log."""

    def steps(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The same steps; each knows those of its window that follow."""
        size = self._task.roll_out_steps()
        rest = iter(steps)
        for step in rest:
            self._window = [step]
            while self._window[-1].number % size and (following := next(rest, None)) is not None:
                self._window.append(following)
            while self._window:
                yield self._window[0]
                self._window = self._window[1:]

    def of_step(self, step: Step, model: nn.Module) -> tuple[Step, EncodedSplit]:
        """A step and a split whose examples are rolled out; the model is asked where they are not yet.

        Args:
            step: The next one.
            model: In training mode; it is left so.
        """
        if step.number not in self._made:
            self._roll_out(model)
        examples = self._made.pop(step.number)
        places = iter(range(len(examples)))
        batches = [[next(places) for _ in batch] for batch in step.batches]
        rows = [self._split.index[position] for batch in step.batches for position in batch]
        index = [example.get(ROW, row) for example, row in zip(examples, rows, strict=True)]
        return replace(step, batches=batches), EncodedSplit(self._split.name, index, examples)

    def _roll_out(self, model: nn.Module) -> None:
        positions = [position for step in self._window for batch in step.batches for position in batch]
        examples = [self._split.examples[position] for position in positions]
        where = [self._where(position) for position in positions]
        fresh = sum(map(len, self._window[0].batches))
        policy = Policy(model, self.reference, self._inference, self._pad, self._drawing(positions), fresh)
        before = generator_states()
        model.eval()
        try:
            done = self._task.roll_out(policy, examples, where)
        except RunFailedError:
            restore_generators(before)  # what is tried again draws the same
            raise
        finally:
            model.train()
        self.figures, made = done.figures, iter(done.examples)
        for step in self._window:
            self._made[step.number] = [next(made) for batch in step.batches for _ in batch]

    def _where(self, position: int) -> str:
        return f"the {self._split.name} split, row {self._split.index[position] + 1}"

    def _drawing(self, given: Sequence[int]) -> Callable[[int], tuple[list[Example], list[str]]]:
        """Draws examples that are not given, by torch's generator; each once."""
        left: list[int] | None = None

        def draw(count: int) -> tuple[list[Example], list[str]]:
            nonlocal left
            if left is None:
                known = set(given)
                left = [at for at in torch.randperm(len(self._split.examples)).tolist() if at not in known]
            drawn, left = left[:count], left[count:]
            examples = [{**self._split.examples[at], ROW: self._split.index[at]} for at in drawn]
            return examples, [self._where(at) for at in drawn]

        return draw

    def state_dict(self) -> dict[str, Any]:
        """What was made for steps that are still to come, and the figures, as plain values."""
        return {"made": {str(number): made for number, made in self._made.items()}, "figures": dict(self.figures)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self._made = {int(number): _examples(made) for number, made in state["made"].items()}
        self.figures = dict(state["figures"])


def _examples(made: Sequence[Mapping[str, Any]]) -> list[Example]:
    return [dict(example) for example in made]
