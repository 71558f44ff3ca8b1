"""What is refused of a conversation before it is rendered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.core.errors import DataError
from peftlab.inference.generate import GenerationOptions
from peftlab.serving.generate_requests import _prompt
from peftlab.serving.schemas import GenerateRequest, Message
from peftlab.serving.serving_config import Limits


@pytest.mark.parametrize("tool", [{"name": "half \ud800"}, {"parameters": {"\ud800": 1}}])
def test_half_a_character_in_a_tool_is_refused(tool: dict[str, Any]) -> None:
    hosted: Any = SimpleNamespace(tuned=None)
    body = GenerateRequest(messages=[Message(role="user", content="hello")], tools=[tool])
    with pytest.raises(DataError, match="half of a character"):
        _prompt(hosted, hosted.tuned, body, GenerationOptions(4), Limits())
