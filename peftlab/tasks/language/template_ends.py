"""With which tokens a chat template ends a response, found by rendering small chats."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from peftlab.core.errors import DataError
from peftlab.tasks.language.conversations import Message

ANSWER = "Certainly"
"""Of a probe: a response that no template takes for anything else."""
QUESTION: Message = {"role": "user", "content": "Hi"}
PROBE_VALUES = ("probe-one", "probe-two")
"""Of a probe: the arguments of two calls."""
PROBE_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks a word up.",
            "parameters": {
                "type": "object",
                "properties": {"word": {"type": "string", "description": "The word."}},
                "required": ["word"],
            },
        },
    }
]

Render = Callable[[Sequence[Message], Sequence[Any] | None], str]


def end_of_text(render: Render, control: re.Pattern[str]) -> str | None:
    """With what a template ends a response of text; None where that cannot be told.

    Args:
        render: Renders messages and tools; raises DataError for what the template refuses.
        control: Matches the control tokens that the template may write.
    """
    try:
        text = render([QUESTION, {"role": "assistant", "content": ANSWER}], None)
    except DataError:
        return None
    first = control.search(text, text.rfind(ANSWER) + len(ANSWER))
    return first.group() if first else None


def end_of_calls(render: Render, control: re.Pattern[str]) -> str | None:
    """With what a template ends a response that calls tools, where it ends nothing else with it, such as each call."""
    for message in _call_probes():
        try:
            text = render([QUESTION, message], PROBE_TOOLS).rstrip()
        except DataError:
            continue  # a template may take one call alone, or arguments as JSON
        calls = text[text.find(PROBE_VALUES[0]) :] if PROBE_VALUES[0] in text else ""
        last = next((found.group() for found in control.finditer(calls) if found.end() == len(calls)), None)
        return last if last is not None and calls.count(last) == 1 else None
    return None


def _call_probes() -> Iterator[Message]:
    """Responses that call tools, in the forms that templates take: two calls or one, arguments as values or as JSON."""
    for values in (PROBE_VALUES, PROBE_VALUES[:1]):
        for as_json in (False, True):
            calls = []
            for number, value in enumerate(values):
                arguments = json.dumps({"word": value}) if as_json else {"word": value}
                function = {"name": "look_up", "arguments": arguments}
                calls.append({"id": f"call0000{number}", "type": "function", "function": function})
            yield {"role": "assistant", "content": "", "tool_calls": calls}
