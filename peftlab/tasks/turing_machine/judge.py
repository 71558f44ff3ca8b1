"""The simulator as a judge: it reads a prompt as a model does, and says how far a response is right."""

from __future__ import annotations

from functools import lru_cache

from peftlab.core.errors import DataError
from peftlab.tasks.turing_machine.machine import HALTING_STATES, STATE_NAMES, SYMBOL_NAMES, Configuration, Machine
from peftlab.tasks.turing_machine.notation import BETWEEN, GOES_ON, HALTS, NEXT, TABLE_END, read_machine

ENDS = (HALTS, GOES_ON)


def share_of_right_steps(prompt: str, response: str, *, steps: int) -> tuple[float, bool]:
    """How many of the steps that a response should hold are right, up to the first that is not.

    Args:
        prompt: ``TABLE | CONFIGURATION =``, as the task ``turing_machine`` writes it without addresses.
        response: One configuration, or several with commas between them.
        steps: That it should hold; fewer where the machine halts before.

    Returns:
        The share, of what it should hold or of what it holds where that is more; and whether its first part is a
        configuration at all.

    Raises:
        DataError: The prompt holds no machine with a configuration of it.
    """
    machine, now = _read_prompt(prompt.strip())
    due: list[tuple[tuple[str, ...], int, str]] = []
    while len(due) < steps and not now.halted:
        now = machine.step(now)
        due.append((now.cells, now.head - now.left, now.state))
    written = [
        read_configuration(" ".join(word for word in part.split() if word not in ENDS))
        for part in response.rstrip(f" {BETWEEN}").split(BETWEEN)
    ]
    right = next((at for at, pair in enumerate(zip(due, written, strict=False)) if pair[0] != pair[1]), None)
    right = min(len(due), len(written)) if right is None else right
    return right / max(len(due), len(written)), written[0] is not None


def read_configuration(text: str) -> tuple[tuple[str, ...], int, str] | None:
    """The cells, the place of the head among them and the state; None where the text is no configuration."""
    words = text.split()
    places = [at for at, word in enumerate(words) if word in STATE_NAMES or word in HALTING_STATES]
    if len(places) != 1 or places[0] == len(words) - 1:
        return None
    cells = tuple(words[: places[0]] + words[places[0] + 1 :])
    return (cells, places[0], words[places[0]]) if all(cell in SYMBOL_NAMES for cell in cells) else None


@lru_cache(maxsize=4096)
def _machine(table: str) -> Machine:
    return read_machine(table)


def _read_prompt(prompt: str) -> tuple[Machine, Configuration]:
    table, mark, rest = prompt.partition(f" {TABLE_END} ")
    start = read_configuration(rest.removesuffix(NEXT).strip())
    if not mark or start is None:
        raise DataError("it is no table with a configuration behind it")
    cells, place, state = start
    machine = _machine(table.strip())
    if state not in (*machine.states, *HALTING_STATES) or not set(cells) <= set(machine.symbols):
        raise DataError("its configuration has a state or a symbol that the table lacks")
    return machine, Configuration(cells, 0, place, state)
