"""With what a response ends: what the template writes behind text and behind calls, and what the checkpoint names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from chat_tokenizers import FIELDS, HEADER, PLAIN_CHAT, PROMPT, chat_tokenizer
from language_models import tiny_decoder

from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.language.chat_template import ChatTemplate
from peftlab.tasks.language.conversations import Conversation
from peftlab.tasks.language.generation import response_ends
from peftlab.tasks.language.plain_template import PlainTemplate

CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"word": "day"}}}


def template(calls: str, end_of_calls: str) -> str:
    """Writes calls, and ends a turn with calls in another way than one of text."""
    return (
        "{%- for m in messages %}"
        + HEADER
        + "{{- m.content }}{%- if m.tool_calls %}"
        + calls
        + "{{- '"
        + end_of_calls
        + "' }}{%- else %}{{- '<|im_end|>' }}{%- endif %}{{- '\\n' }}{%- endfor %}"
        + PROMPT
    )


EACH = "{%- for call in m.tool_calls %}{{- '<s>' + (call.function | tojson) + '</s>' }}{%- endfor %}"
ONE = (
    "{%- if m.tool_calls | length > 1 %}{{- raise_exception('one call at a time') }}{%- endif %}"
    "{{- m.tool_calls[0].function.name + m.tool_calls[0].function.arguments }}"
)
"""As Llama's: one call alone; and it wants the arguments as JSON."""


@pytest.mark.parametrize(
    ("chat", "ends"),
    [
        (PLAIN_CHAT, ["<|im_end|>"]),
        (FIELDS, ["<|im_end|>"]),
        (template(EACH, "<eom>"), ["<|im_end|>", "<eom>"]),
        (template(ONE, "<eom>"), ["<|im_end|>", "<eom>"]),
        (template(EACH, "<|im_end|>"), ["<|im_end|>"]),
        (template(EACH, ""), ["<|im_end|>"]),  # what ends each call does not end the turn
        (template("{{- raise_exception('no calls') }}", "<eom>"), ["<|im_end|>"]),
    ],
)
def test_ends_are_found_by_rendering(chat: str, ends: list[str]) -> None:
    tokenizer = chat_tokenizer(chat)
    renderer = ChatTemplate(tokenizer, None)
    assert tokenizer.convert_ids_to_tokens(renderer.end_token_ids) == ends


def test_a_response_with_calls_is_learned_up_to_its_own_end() -> None:
    tokenizer = chat_tokenizer(template(EACH, "<eom>"))
    messages = [
        {"role": "user", "content": "the day"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "a film"},
        {"role": "assistant", "content": "good"},
    ]
    turns = ChatTemplate(tokenizer, None).turns(Conversation(messages), where="row 1")
    assert [tokenizer.decode(turn.response[-1:]) for turn in turns] == ["<eom>", "<|im_end|>"]


def test_the_checkpoints_control_tokens_end_a_response_and_its_words_do_not() -> None:
    tokenizer = chat_tokenizer(template(EACH, ""))
    model: Any = tiny_decoder("llama")
    eom, word = tokenizer.convert_tokens_to_ids("<eom>"), tokenizer("day", add_special_tokens=False)["input_ids"][0]
    for named in ([word, eom], eom, None):
        model.generation_config = SimpleNamespace(eos_token_id=named)
        expected = ["<|im_end|>", *(["<eom>"] if named is not None else [])]
        assert tokenizer.convert_ids_to_tokens(response_ends(ChatTemplate(tokenizer, None), model)) == expected
        plain = PlainTemplate(tokenizer, "{prompt}\n")
        assert response_ends(plain, model) == [tokenizer.eos_token_id]


@pytest.mark.parametrize("role", ["function", "function_call"])
def test_roles_of_functions_go_on_to_the_template_or_are_refused_for_what_it_does(role: str) -> None:
    row = [
        {"role": "user", "content": "the day"},
        {"role": role, "content": "a film"},
        {"role": "assistant", "content": "good"},
    ]
    arranged = InstructionTuning(messages="m").arrange(Split("train", [0], {"m": [row]}, "rows.jsonl"))
    assert len(arranged) == 1
    tokenizer = chat_tokenizer(PLAIN_CHAT)
    turns = ChatTemplate(tokenizer, None).turns(Conversation(row), where="row 1")
    assert f"<|im_start|>{role}\na film<|im_end|>" in tokenizer.decode(turns[0].before)
    known = PLAIN_CHAT.replace("in messages %}", "in messages if m.role in ['user', 'assistant'] %}")
    with pytest.raises(DataError, match=f"leaves out message 2, the {role}'s"):
        ChatTemplate(chat_tokenizer(known), None).turns(Conversation(row), where="row 1")
    strict = (
        "{%- for m in messages %}{%- if m.role not in ['user', 'assistant'] %}{{- raise_exception('Unknown role ' + "
    )
    strict += "m.role) }}{%- endif %}{%- endfor %}" + PLAIN_CHAT
    with pytest.raises(DataError, match=f"Unknown role {role}"):
        ChatTemplate(chat_tokenizer(strict), None).turns(Conversation(row), where="row 1")
