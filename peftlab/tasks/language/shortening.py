"""Chats made to fit: without their oldest exchanges, rendered anew; what the system says stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peftlab.tasks.language.conversations import Conversation
from peftlab.tasks.language.rendering import Turn, too_long

LEADING = ("system", "developer")
"""Roles of messages that stay, at the beginning, when a chat is shortened."""


def shorten(
    conversation: Conversation, render: Callable[[Conversation], list[Turn]], max_length: int, where: str
) -> tuple[list[Turn], bool]:
    """Render a chat without its oldest exchanges, as many as need be; then its last prompt without its beginning.

    Returns:
        The turns, and whether the last prompt was cut.
    """
    messages = list(conversation.messages)
    head = next((at for at, each in enumerate(messages) if each["role"] not in LEADING), len(messages))
    starts = [
        at
        for at in range(head, len(messages))
        if messages[at]["role"] == "user" and (at == head or messages[at - 1]["role"] != "user")
    ]

    def without(count: int) -> Conversation:
        return (
            Conversation([*messages[:head], *messages[starts[count] :]], conversation.tools) if count else conversation
        )

    low, high = 0, max(0, len(starts) - 1)
    while low < high:  # the fewest exchanges that must go
        middle = (low + high) // 2
        low, high = (low, middle) if total_length(render(without(middle))) <= max_length else (middle + 1, high)
    kept = without(low)
    turns = render(kept)
    return (turns, False) if total_length(turns) <= max_length else (_cut(kept, render, turns, max_length, where), True)


def _cut(
    conversation: Conversation,
    render: Callable[[Conversation], list[Turn]],
    turns: list[Turn],
    max_length: int,
    where: str,
) -> list[Turn]:
    """Take the beginning of the user's last message away, until the rest fits; everything around it stays."""
    at = max((at for at, message in enumerate(conversation.messages) if message["role"] == "user"), default=None)
    content = "" if at is None else str(conversation.messages[at]["content"])

    def length_without(characters: int) -> int:
        return (
            total_length(turns)
            if at is None
            else total_length(render(_with_content(conversation, at, content[characters:])))
        )

    low, high = 0, max(0, len(content) - 1)
    if (least := length_without(high)) > max_length or at is None:
        what = "the response and what must stand before it" if turns[-1].response else "what stands around the prompt"
        raise too_long(least, max_length, where=where, what=what)
    while low < high:  # the fewest characters that must go
        middle = (low + high) // 2
        low, high = (low, middle) if length_without(middle) <= max_length else (middle + 1, high)
    return render(_with_content(conversation, at, content[low:]))


def _with_content(conversation: Conversation, at: int, content: str) -> Conversation:
    messages = list(conversation.messages)
    messages[at] = {**messages[at], "content": content}
    return Conversation(messages, conversation.tools)


def total_length(turns: Sequence[Turn]) -> int:
    """Tokens of some turns."""
    return sum(map(len, turns))
