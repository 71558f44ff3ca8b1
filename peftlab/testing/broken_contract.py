"""How a broken contract is told: what is wrong, where, and what to do, as in peftlab's other errors."""

from __future__ import annotations

from peftlab.core.record import Guard


class BrokenContractError(AssertionError):
    """A plugin does not do what its contract says.

    Args:
        message: What is wrong, in one sentence.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message}\n  {hint}" if hint else message)


def require(holds: object, message: str, *, hint: str | None = None) -> None:
    """Refuse a plugin where something does not hold.

    Raises:
        BrokenContractError: It does not.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test, and not this one
    if not holds:
        raise BrokenContractError(message, hint=hint)


def require_guard(guard: Guard, whose: str, *, hint: str | None = None) -> None:
    """Refuse a plugin that a guard of a run would refuse.

    Args:
        guard: As the run would have it.
        whose: What was looked at, such as ``lora on bert``.
        hint: What to do about it.

    Raises:
        BrokenContractError: It has failed.
    """
    __tracebackhide__ = True
    require(guard.status != "failed", f"{whose}: {guard.detail}", hint=hint)
