"""Dynamic sampling: a step of groups that teach something, as far as other prompts have some.

Yu et al. 2025 (https://arxiv.org/abs/2503.14476, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peftlab.core.splits import Example
from peftlab.tasks.reinforcement.judged_responses import Group

REPLACED = "groups_replaced"
"""A figure of a roll-out: the share of groups in whose place stand those of other prompts."""


def teaching_groups(
    groups: Sequence[Group],
    *,
    teaches: Callable[[Group], bool],
    draw: Callable[[Sequence[Example], Sequence[str]], Sequence[Group]],
    others: Callable[[int], tuple[Sequence[Example], Sequence[str]]],
    tries: int,
) -> list[Group]:
    """The groups, those that teach nothing replaced by such of other prompts as teach something.

    Args:
        groups: Of the step's own prompts.
        teaches: Whether something can be learned from a group.
        draw: Has the model write to prompts, and rewards judge; also takes the row of each prompt.
        others: At most so many other prompts, with the row of each; none where all have been drawn.
        tries: How often other prompts are drawn, as many as there are groups left to replace.
    """
    found = list(groups)
    for _ in range(tries):
        places = [place for place, group in enumerate(found) if not teaches(group)]
        examples, where = others(len(places)) if places else ((), ())
        if not examples:
            break
        for place, group in zip(places, filter(teaches, draw(examples, where)), strict=False):
            found[place] = group
    return found
