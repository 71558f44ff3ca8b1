"""Chats are trained on as the model's own template writes them; what a person typed is never a control token."""

from __future__ import annotations

import datetime
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from chat_tokenizers import CLOCK, FIELDS, PLAIN_CHAT, SPECIALS, THINKING, WITH_BOS, chat_tokenizer

from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.splits import Split
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.language import chat_template
from peftlab.tasks.language.chat_template import ChatTemplate
from peftlab.tasks.language.conversations import Conversation
from peftlab.tasks.language.remembered import Remembered
from peftlab.tasks.language.rendering import Turn

SYSTEM = {"role": "system", "content": "be kind"}
TWO = [
    {"role": "user", "content": "the film"},
    {"role": "assistant", "content": "was good"},
    {"role": "user", "content": "a day"},
    {"role": "assistant", "content": "in town"},
]


def split_of(name: str, **columns) -> Split:
    return Split(name, list(range(len(next(iter(columns.values()))))), columns, "rows.jsonl")


def shown(turns: list[Turn], tokenizer) -> str:
    """The text, with what is learned in double brackets."""
    parts = [
        tokenizer.decode(turn.before) + ("[[{}]]" if turn.is_learned else "{}").format(tokenizer.decode(turn.response))
        for turn in turns
    ]
    return "".join(parts)


def ids_of(turns: list[Turn]) -> list[int]:
    return [token for turn in turns for token in (*turn.before, *turn.response)]


def turns_of(messages, tokenizer, tools=None) -> list[Turn]:
    return ChatTemplate(tokenizer, None).turns(Conversation(messages, tools), where="row 1")


def rendered(tokenizer, messages, **options) -> list[int]:
    return tokenizer.apply_chat_template(messages, return_dict=False, **options)


# --- templates that are no good ---------------------------------------------------------------------------------------

LOOP = "{%- for a in range(99999) %}{%- for b in range(99999) %}{%- endfor %}{%- endfor %}"


@pytest.mark.parametrize("template", [LOOP + PLAIN_CHAT, "{%- set a = 9 ** (9 ** 9) %}" + PLAIN_CHAT, LOOP + CLOCK])
def test_a_template_without_an_end_is_given_up(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "RENDERING_SECONDS", 0.2)
    renderer = ChatTemplate(chat_tokenizer(template), datetime.datetime(2026, 1, 1))
    with pytest.raises(UnsupportedError, match=r"model\.path: .* come to no end in 0\.2 seconds \(row 1\)"):
        renderer.turns(Conversation(TWO), where="row 1")
    with ThreadPoolExecutor(1) as pool, pytest.raises(UnsupportedError, match="come to no end"):  # as a service does
        pool.submit(ChatTemplate(chat_tokenizer(LOOP), None).fit_prompt, Conversation(TWO[:1]), 50, where="").result()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("{%- for a in range(10 ** 12) %}{%- endfor %}", "Range too big"),
        ("{%- macro a() %}{{- a() }}{%- endmacro %}{{- a() }}", "recursion"),
        ("{{- 1 / 0 }}", "division by zero"),
        ("{{- 'a' * 10 ** 16 }}", "MemoryError"),
        ("{{- raise_exception('not so') }}", "not so"),
        ("{%- for", "unexpected"),
    ],
)
def test_a_template_that_fails_names_the_row(start: str, message: str) -> None:
    with pytest.raises(DataError, match=f"row 1.* refuses the messages: .*{message}"):
        turns_of(TWO, chat_tokenizer(start + PLAIN_CHAT))


def test_of_several_templates_one_is_the_usual_one() -> None:
    tokenizer = chat_tokenizer(None)
    tokenizer.chat_template = {"default": PLAIN_CHAT, "tool_use": FIELDS}
    assert ids_of(turns_of(TWO, tokenizer)) == ids_of(turns_of(TWO, chat_tokenizer(PLAIN_CHAT)))
    tokenizer.chat_template = {"rag": PLAIN_CHAT}
    with pytest.raises(UnsupportedError, match=r"model\.path.*no default"):
        turns_of(TWO, tokenizer)


# --- the template's own rendering -------------------------------------------------------------------------------------

SECOND_END = PLAIN_CHAT.replace("{%- if add", "{%- if not add_generation_prompt %}{{- '</s>' }}{%- endif %}{%- if add")
"""As Phi-3's: a second end token behind the last turn, if nobody is to go on."""
STRIPS_THOUGHTS = (
    "{%- for m in messages %}{%- set text = m.content %}{%- if m.role == 'assistant' and not loop.last %}"
    "{%- set text = m.content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@pytest.mark.parametrize("template", [PLAIN_CHAT, THINKING, FIELDS, WITH_BOS, SECOND_END, STRIPS_THOUGHTS])
@pytest.mark.parametrize("messages", [TWO, [SYSTEM, *TWO], [SYSTEM, *TWO, *TWO], TWO[:2]])
def test_a_chat_is_the_templates_own_rendering_token_for_token(template: str, messages) -> None:
    tokenizer = chat_tokenizer(template)
    turns = turns_of(messages, tokenizer)
    whole = rendered(tokenizer, messages)
    assert ids_of(turns) == whole[: len(ids_of(turns))]
    assert tokenizer.decode(whole[len(ids_of(turns)) :]).strip() == ""
    assert [turn.is_learned for turn in turns] == [True] * (len(messages) // 2)
    for turn in turns:
        assert tokenizer.decode(turn.before).endswith("<|im_start|>assistant\n")
        end = "<|im_end|>\n</s>" if template == SECOND_END and turn is turns[-1] else "<|im_end|>"
        assert tokenizer.decode(turn.response).endswith(end)
    prompt, _ = ChatTemplate(tokenizer, None).fit_prompt(Conversation(messages[:-1]), 1000, where="row 1")
    assert prompt == rendered(tokenizer, messages[:-1], add_generation_prompt=True)
    assert prompt == ids_of(turns)[: len(prompt)]


def test_a_template_that_rewrites_earlier_turns_cuts_no_word() -> None:
    tokenizer = chat_tokenizer(THINKING)
    assert shown(turns_of(TWO, tokenizer), tokenizer) == (
        "<|im_start|>user\nthe film<|im_end|>\n<|im_start|>assistant\n[[was good<|im_end|>]]\n"
        "<|im_start|>user\na day<|im_end|>\n<|im_start|>assistant\n[[<think>\n\n</think>\n\nin town<|im_end|>]]"
    )
    thoughts = [TWO[0], {"role": "assistant", "content": "<think>\nwell\n</think>\nwas good"}, *TWO[2:]]
    tokenizer = chat_tokenizer(STRIPS_THOUGHTS)
    assert "assistant\n[[was good<|im_end|>]]" in shown(turns_of(thoughts, tokenizer), tokenizer)
    assert "[[<think>\nwell\n</think>\nwas good<|im_end|>]]" in shown(turns_of(thoughts[:2], tokenizer), tokenizer)


def test_an_earlier_response_that_follows_another_prompt_is_read_and_not_learned() -> None:
    """As of models whose prompt opens the thoughts, which earlier turns do not have."""
    opens = THINKING.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n<think>\\n' }}")
    tokenizer = chat_tokenizer(opens)
    task = InstructionTuning(messages="m")
    split = task.arrange(split_of("train", m=[TWO]))
    found = task.encode(split, tokenizer, ())
    assert found.notes["earlier_responses_not_learned"] == 1
    assert found.examples[0]["input_ids"] == rendered(tokenizer, TWO)[:-1]
    learned = [label for label in found.examples[0]["labels"] if label != -100]
    assert tokenizer.decode(learned) == "\n</think>\n\nin town<|im_end|>"


def test_a_prompt_that_ends_within_a_token_reads_the_same_in_training_and_use() -> None:
    blank = "{%- for m in messages %}{{- m.role + ': ' + m.content + '<|im_end|>' }}{%- endfor %}" + (
        "{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
    )
    tokenizer = chat_tokenizer(blank)
    turns = turns_of(TWO, tokenizer)
    prompt, _ = ChatTemplate(tokenizer, None).fit_prompt(Conversation(TWO[:-1]), 1000, where="row 1")
    assert ids_of(turns)[: len(prompt)] == prompt
    assert tokenizer.decode(ids_of(turns)) == tokenizer.apply_chat_template(TWO, tokenize=False)
    assert tokenizer.decode(turns[-1].response) == "in town<|im_end|>"


# --- beginnings and ends ------------------------------------------------------------------------------------------------


def test_an_end_token_that_the_template_lacks_is_not_put_in() -> None:
    tokenizer = chat_tokenizer(PLAIN_CHAT, eos="</s>")
    assert 1 not in ids_of(turns_of(TWO, tokenizer))
    assert ChatTemplate(tokenizer, None).end_token_ids == [1, 3], "what ends a response ends its generation"
    endless = chat_tokenizer(PLAIN_CHAT.replace("<|im_end|>", ""), eos="</s>")
    task = InstructionTuning(messages="m")
    found = task.encode(task.arrange(split_of("train", m=[TWO])), endless, ())
    assert found.examples[0]["input_ids"] == rendered(endless, TWO)
    assert found.notes["responses_without_end_token"] == 1


@pytest.mark.parametrize(
    ("adds", "template", "begin"),
    [("<s> $A", "{prompt}\n", [0]), ("<s> $A </s>", "{prompt}\n", [0]), ("$A </s>", "{prompt}\n", []), ("$A", "{prompt}\n", []), ("<s> $A", "<s>Q: {prompt}\n", [0])],
)  # fmt: skip
def test_a_plain_prompt_begins_as_the_tokenizer_begins_a_text(adds: str, template: str, begin: list[int]) -> None:
    tokenizer = chat_tokenizer(None, eos="</s>", adds=adds)
    task = InstructionTuning(template=template)
    columns = {"prompt": ["the film"], "response": ["was good"]}
    (example,) = task.encode(task.arrange(split_of("test", **columns)), tokenizer, ()).examples
    ids = example["input_ids"]
    assert [token for token in ids if token < 2] == [*begin, 1], "each once"
    assert ids[: len(begin)] == begin
    (prompt,) = task.prompts(split_of("test", prompt=["the film"]), tokenizer)
    assert example["prompt_ids"] == prompt["input_ids"] == ids[: len(prompt["input_ids"])]


def test_a_prompt_that_is_cut_keeps_its_beginning() -> None:
    tokenizer = chat_tokenizer(None, eos="</s>")
    task = InstructionTuning(max_length=12)
    columns = {"prompt": ["the film was " * 9 + "kind"], "response": ["good"]}
    (example,) = task.encode(task.arrange(split_of("train", **columns)), tokenizer, ()).examples
    assert len(example["input_ids"]) == 12
    assert example["input_ids"][0] == 0
    assert tokenizer.decode(example["input_ids"]).endswith("kind\ngood</s>")


@pytest.mark.parametrize(
    ("adds", "eos", "expected"),
    [("<s> $A", "</s>", [0, 1, 0, 1]), ("$A </s>", "</s>", [1, 1]), ("$A", "</s>", [1, 1]), ("<s> $A", "<s>", [0, 0, 0])],
)  # fmt: skip
def test_every_raw_text_begins_and_ends_once(adds: str, eos: str, expected: list[int]) -> None:
    tokenizer = chat_tokenizer(None, eos=eos, adds=adds)
    (example,) = CausalLm(max_length=500).encode(split_of("train", text=["the film", "a day"]), tokenizer, ()).examples
    assert [token for token in example["input_ids"] if token < 2] == expected
    (prompt,) = CausalLm().prompts(split_of("test", text=["the film"]), tokenizer)
    assert prompt["input_ids"] == example["input_ids"][: len(prompt["input_ids"])]


# --- what messages hold -------------------------------------------------------------------------------------------------

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"town": 3}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def learned(row, template: str = FIELDS, *, tools=None) -> str:
    tokenizer = chat_tokenizer(template)
    task = InstructionTuning(messages="m")
    columns = {"m": [row]} | ({"tools": [tools]} if tools else {})
    split = task.arrange(split_of("train", **columns))
    (example,) = task.encode(split, tokenizer, ()).examples
    marked, before = "", False
    for token, label in zip(example["input_ids"], [-100, *example["labels"]], strict=False):
        is_learned = label != -100
        marked += ("[[" if is_learned else "]]") * (is_learned != before) + tokenizer.decode([token])
        before = is_learned
    return marked


def test_what_a_message_holds_reaches_the_template() -> None:
    asked = {"role": "user", "content": "a day"}
    call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    text = learned([asked, call, {"role": "tool", "content": "bright"}, TWO[-1]], tools=[TOOL])
    assert '"name": "weather", "parameters"' in text.split("<|im_start|>user")[0]
    assert '[[\n<call>{"name": "weather", "arguments": {"town": 3}}</call><|im_end|>]]' in text
    assert "<|im_start|>tool\nbright<|im_end|>" in text
    assert learned([asked, call]).endswith("</call><|im_end|>")
    thought = {"role": "assistant", "reasoning_content": "it was", "content": "good"}
    assert "[[<think>it was</think>\ngood<|im_end|>" in learned([asked, thought])
    older = {"role": "assistant", "thinking": "it was", "content": "good"}
    assert "[[<think>it was</think>\ngood<|im_end|>" in learned([asked, older])
    parts = [{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "day"}]}, TWO[-1]]
    assert learned(parts) == learned([asked, TWO[-1]])
    assert "developer\nbe kind" in learned([{**SYSTEM, "role": "developer"}, *TWO])
    assert "user\nthe film<|im_end|>\n<|im_start|>user\na day" in learned([TWO[0], asked, TWO[-1]])


def test_a_turn_of_weight_zero_is_read_and_not_learned() -> None:
    wrong = {"role": "assistant", "content": "was good", "weight": 0}
    text = learned([TWO[0], wrong, TWO[2], {**TWO[3], "weight": 1}])
    assert "was good<|im_end|>" in text
    assert "[[was" not in text
    assert "[[in town<|im_end|>" in text
    # What stands behind the last turn that is learned teaches nothing.
    assert "in town" not in learned([*TWO[:3], {**TWO[3], "weight": 0}])
    assert "in town" in learned([*TWO[:3], {**TWO[3], "weight": None}])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([TWO[0], {"role": "assistant", "content": "good", "weight": 0}], "each has the weight 0"),
        ([TWO[0], {"role": "assistant", "content": "good", "weight": 0.5}], "the weight 0.5"),
        ([{**TWO[0], "weight": 1}, TWO[1]], "only the assistant's messages are learned"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}, TWO[1]], "a part of the type 'image'"),
        ([{"role": "user", "content": 7}, TWO[1]], "which is not text"),
        ([{"role": "user", "content": []}, TWO[1]], "a message of the user is empty"),
        ([{"role": "narrator", "content": "x"}, TWO[1]], "the role 'narrator'"),
    ],
)
def test_what_cannot_be_learned_is_refused_for_what_it_is(row, message: str) -> None:
    with pytest.raises(DataError, match="row 1") as caught:
        InstructionTuning(messages="m").arrange(split_of("train", m=[row]))
    assert message in str(caught.value)


NO_DEVELOPER = PLAIN_CHAT.replace("{%- for m in messages %}", "{%- for m in messages if m.role != 'developer' %}")


@pytest.mark.parametrize(
    ("row", "template", "message"),
    [
        ([TWO[0], {**TWO[1], "reasoning_content": "it"}], PLAIN_CHAT, "holds `reasoning_content`, which the model's"),
        ([TWO[0], {**TWO[1], "tool_calls": [CALL]}], PLAIN_CHAT, "holds `tool_calls`, which the model's"),
        ([{**SYSTEM, "role": "developer"}, *TWO], NO_DEVELOPER, "leaves out message 1, the developer's"),
        ([TWO[0], TWO[0], TWO[1]], "{{- raise_exception('roles must alternate') }}", "roles must alternate"),
        (TWO, "{%- for m in messages %}{{- m.content + 1 }}{%- endfor %}", "refuses the messages: can only concat"),
    ],
)
def test_what_the_template_would_drop_is_refused(row, template: str, message: str) -> None:
    with pytest.raises(DataError, match="row 1") as caught:
        learned(row, template)
    assert message in str(caught.value)
    if template == PLAIN_CHAT:
        with pytest.raises(DataError, match="holds `tools`"):
            learned(TWO, template, tools=[TOOL])


def test_a_metric_compares_with_all_that_a_perfect_model_writes() -> None:
    task = InstructionTuning(messages="m")
    thought = [TWO[0], {"role": "assistant", "reasoning_content": "it was", "content": "good"}]
    for template, row, expected in (
        (FIELDS, thought, "<think>it was</think>\ngood"),
        (FIELDS, [TWO[0], {"role": "assistant", "content": "", "tool_calls": [CALL]}], '<call>{"name": "weather", "arguments": {"town": 3}}</call>'),
        (THINKING, TWO[:2], "<think>\n\n</think>\n\nwas good"),
        (PLAIN_CHAT, TWO[:2], "was good"),
    ):  # fmt: skip
        tokenizer = chat_tokenizer(template)
        (example,) = task.encode(task.arrange(split_of("test", m=[row])), tokenizer, ()).examples
        assert example["references"] == [expected]
        response = [label for label in example["labels"] if label not in (-100, 3)]
        assert task.written_text(response, tokenizer) == expected


# --- what a person typed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", SPECIALS)
@pytest.mark.parametrize("place", range(3))
def test_a_special_token_that_somebody_typed_is_text(typed: str, place: int) -> None:
    tokenizer = chat_tokenizer(PLAIN_CHAT)
    messages = [SYSTEM, *TWO[:2]]
    messages[place] = {**messages[place], "content": f"say {typed} twice"}
    turns = turns_of(messages, tokenizer)
    clean = turns_of([SYSTEM, *TWO[:2]], tokenizer)
    assert [token for token in ids_of(turns) if token < 5] == [token for token in ids_of(clean) if token < 5]
    assert tokenizer.decode(ids_of(turns)) == tokenizer.apply_chat_template(messages, tokenize=False).strip()


def test_not_in_tools_raw_text_and_plain_prompts_either() -> None:
    tokenizer = chat_tokenizer(FIELDS)
    call = {"type": "function", "function": {"name": "<|im_end|>", "arguments": {"<|im_start|>": "</s>"}}}
    row = [TWO[0], {"role": "assistant", "content": "", "tool_calls": [call]}]
    turns = turns_of(row, tokenizer, [{"name": "<|im_start|>system"}])
    assert [token for token in ids_of(turns) if token < 5] == [2, 3, 2, 3, 2, 3]
    plain = chat_tokenizer(None, eos="</s>")
    (example,) = CausalLm(max_length=99).encode(split_of("train", text=["a </s> <s> day"]), plain, ()).examples
    assert [token for token in example["input_ids"] if token < 5] == [0, 1]
    task = InstructionTuning()
    columns = {"prompt": ["a </s> day"], "response": ["<s> good"]}
    (example,) = task.encode(task.arrange(split_of("train", **columns)), plain, ()).examples
    assert [token for token in example["input_ids"] if token < 5] == [0, 1]
    assert plain.decode(example["input_ids"]) == "<s>a </s> day\n<s> good</s>"


# --- long chats, clocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_long_chat_keeps_its_system_message(role: str) -> None:
    tokenizer = chat_tokenizer(WITH_BOS)
    first = {**SYSTEM, "role": role}
    task = InstructionTuning(messages="m", max_length=60)
    found = task.encode(task.arrange(split_of("train", m=[[first, *TWO * 4]])), tokenizer, ())
    (example,) = found.examples
    shorter = [rendered(tokenizer, [first, *TWO * 4][:1] + (TWO * 4)[2 * gone :]) for gone in range(8)]
    fitting = next(ids for ids in shorter if len(ids) - 1 <= 60)
    assert example["input_ids"] == fitting[:-1], "the template's rendering of system and the newest turns"
    assert found.notes["chats_shortened"] == 1
    assert found.notes["earlier_responses_cut_away"] == shorter.index(fitting)
    task = InstructionTuning(messages="m", max_length=60, max_new_tokens=5)
    (prompt,) = task.prompts(split_of("test", m=[[first, *TWO * 4]]), tokenizer)
    assert tokenizer.decode(prompt["input_ids"]).startswith(
        f"<s><|im_start|>{role}\nbe kind<|im_end|>\n<|im_start|>user\n"
    )


def test_a_clock_stands_still() -> None:
    tokenizer = chat_tokenizer(CLOCK)
    moments = [datetime.datetime(2024, 2, 29, 12, 34), datetime.datetime(2031, 1, 1)]
    for moment in [*moments, *moments]:  # each keeps its own, also when it is asked again
        task = InstructionTuning(messages="m", date=moment.isoformat())
        split = task.arrange(split_of("test", m=[TWO]))
        (example,) = task.encode(split, tokenizer, ()).examples
        now = moment.strftime("%d %b %Y %H:%M")
        assert tokenizer.decode(example["input_ids"]).startswith(f"Now: {now}\n<|im_start|>user")
        (prompt,) = task.prompts(split_of("test", m=[TWO]), tokenizer)
        assert prompt["input_ids"] == example["prompt_ids"]
    for wrong in ("yesterday", 5):
        with pytest.raises(ValueError, match="date"):
            InstructionTuning(messages="m", date=wrong)
    assert tokenizer.chat_template == CLOCK, "the template that is saved keeps its clock"


def test_rows_with_fields_are_kept_apart_and_may_be_json() -> None:
    rows = [
        [TWO[0], {"role": "assistant", "content": "good"}],
        [TWO[0], {"role": "assistant", "content": "good", "reasoning_content": "it was"}],
        json.dumps([TWO[0], {"role": "assistant", "content": "good"}]),
    ]
    split = InstructionTuning(messages="m").arrange(split_of("train", m=rows))
    assert split.columns["responses"] == [["good", "good"]]
    assert split.columns["response_fields"] == [[{}, {"reasoning_content": "it was"}]]


@pytest.mark.parametrize("key", ["train", "training", "learn"])
def test_a_turn_that_is_not_to_be_trained_on_is_read_and_not_learned(key: str) -> None:
    row = [TWO[0], {**TWO[1], key: False}, TWO[2], {**TWO[3], key: True}]
    text = learned(row)
    assert "[[was good" not in text
    assert "was good" in text
    assert "[[in town<|im_end|>" in text


def test_an_old_call_of_a_function_is_refused_for_what_it_is() -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    with pytest.raises(DataError, match="holds `function_call`, which the model's"):
        learned([TWO[0], call])


# --- what is done once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "test"])
def test_the_beginning_of_a_chat_is_rendered_once_for_all_of_its_responses(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, done = chat_tokenizer(PLAIN_CHAT), {"rendered": 0, "encoded": 0}

    def counted(what: str, call):
        def count(*given, **options):
            done[what] += 1
            return call(*given, **options)

        return count

    monkeypatch.setattr(tokenizer, "apply_chat_template", counted("rendered", tokenizer.apply_chat_template))
    monkeypatch.setattr(chat_template, "encode_marked", counted("encoded", chat_template.encode_marked))
    chat = [SYSTEM, *TWO * 8, TWO[0]]
    rows = [[*chat, {"role": "assistant", "content": f"was good {at}"}] for at in range(10)]
    task = InstructionTuning(messages="m", max_length=4000)
    split = task.arrange(split_of(name, m=rows))
    examples = task.encode(split, tokenizer, ()).examples
    once = 2 * 16 + 1  # a prompt before each response, and a chat behind each but the last
    assert done["rendered"] <= once + 2 * len(rows) + 3  # each chat as it is, and with its marks
    assert done["encoded"] <= once + 2 * len(rows) + 1

    monkeypatch.setattr(chat_template, "REMEMBERED_BYTES", 0)
    assert task.encode(split, tokenizer, ()).examples == examples
    assert done["rendered"] > 10 * once


def test_results_are_remembered_up_to_a_size() -> None:
    remembered, made = Remembered[str](20, len), []

    def get(text: str) -> str:
        return remembered.get(text, lambda: made.append(text) or 8 * text)

    assert [get(text) for text in "abacab"] == [8 * text for text in "abacab"]
    assert made == ["a", "b", "c", "b"]  # there is room for two; `a` was asked for after `b`
    with pytest.raises(ZeroDivisionError):
        remembered.get("d", lambda: str(1 // 0))
    assert remembered.get("d", lambda: "x" * 30) == "x" * 30  # more than all that there is room for
    assert get("d") == 8 * "d"
