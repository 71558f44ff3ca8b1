"""Layouts, responses, truncation: what is learned is the responses, and nothing else."""

from __future__ import annotations

import copy
import json

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from language_models import Reading, tiny_decoder

from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.splits import Split
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.language.chat_template import ChatTemplate
from peftlab.tasks.language.conversations import Conversation
from peftlab.tasks.language.plain_template import PlainTemplate
from peftlab.tasks.text_generation import TextGeneration

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_gpt2):
    return transformers.AutoTokenizer.from_pretrained(tiny_gpt2, pad_token="<|endoftext|>")


@pytest.fixture(scope="module")
def chat_tokenizer(tiny_gpt2):
    made = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.eos_token, made.pad_token, made.chat_template = "<|im_end|>", "<|im_end|>", CHATML
    return made


def split_of(name: str = "train", **columns) -> Split:
    count = len(next(iter(columns.values())))
    return Split(name, list(range(count)), columns, "rows.jsonl")


def labelled_text(example, tokenizer) -> str:
    return tokenizer.decode([label for label in example["labels"] if label != -100])


def test_only_the_response_and_its_end_are_learned(tokenizer) -> None:
    task = InstructionTuning(template="Q: {prompt} A: ")
    split = task.arrange(split_of(prompt=["the film", "a day"], response=["good film", "bad"]))
    found = task.encode(split, tokenizer, ())
    assert [labelled_text(example, tokenizer) for example in found.examples] == [
        "good film<|endoftext|>",
        "bad<|endoftext|>",
    ]
    assert tokenizer.decode(found.examples[0]["input_ids"]) == "Q: the film A: good film<|endoftext|>"
    # What stands at each labelled place predicts the token that follows it.
    for example in found.examples:
        for place, label in enumerate(example["labels"]):
            assert label == -100 or label == example["input_ids"][place + 1]


def test_every_response_of_a_chat_is_learned(chat_tokenizer) -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "the film"},
        {"role": "assistant", "content": "good"},
        {"role": "user", "content": "a day"},
        {"role": "assistant", "content": "bad day"},
    ]
    task = InstructionTuning(messages="messages")
    split = task.arrange(split_of(messages=[messages]))
    (example,) = task.encode(split, chat_tokenizer, ()).examples
    assert labelled_text(example, chat_tokenizer) == "good<|im_end|>bad day<|im_end|>"
    whole = chat_tokenizer.apply_chat_template(messages, tokenize=False)
    assert chat_tokenizer.decode(example["input_ids"]) == whole.removesuffix("\n")
    (question,) = task.encode(split_like(split, "test"), chat_tokenizer, ()).examples
    asked = chat_tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    assert chat_tokenizer.decode(question["prompt_ids"]) == asked


def split_like(split: Split, name: str) -> Split:
    return Split(name, split.index, split.columns, split.source)


def test_layouts_say_the_same() -> None:
    plain = InstructionTuning(input="input").arrange(
        split_of(prompt=["add", "hello"], input=["1 and 2", None], response=["3", "hi"])
    )
    alpaca = InstructionTuning(layout="alpaca").arrange(
        split_of(instruction=["add", "hello"], input=["1 and 2", ""], output=["3", "hi"])
    )
    shared = InstructionTuning(layout="sharegpt").arrange(
        split_of(
            conversations=[
                [{"from": "human", "value": "add\n\n1 and 2"}, {"from": "gpt", "value": "3"}],
                [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi"}],
            ]
        )
    )
    turns = InstructionTuning(messages="m").arrange(split_of(m=[["add\n\n1 and 2", "3"], ["hello", "hi"]]))
    assert plain.columns == alpaca.columns == shared.columns == turns.columns


def test_rows_with_one_prompt_are_references_of_one_another(tokenizer) -> None:
    split = TextGeneration().arrange(split_of(prompt=["a", "b", "a", "a"], response=["good", "bad", "great", "good"]))
    assert split.columns["responses"] == [["good", "great"], ["bad"]]
    assert list(split.index) == [0, 1]
    assert len(TextGeneration().encode(split, tokenizer, ()).examples) == 3
    test = TextGeneration().encode(split_like(split, "test"), tokenizer, ())
    assert [example["references"] for example in test.examples] == [["good", "great"], ["bad"]]


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ({}, {"prompt": ["a", "b"], "response": ["x", " "]}, "row 2: the column `response` is empty"),
        ({}, {"prompt": ["a", None], "response": ["x", "y"]}, "row 2: the column `prompt` is missing"),
        ({}, {"prompt": ["a", 7], "response": ["x", "y"]}, "row 2: the column `prompt` holds 7"),
        ({"messages": "m"}, {"m": [["a", "b"], ["a"]]}, "row 2: the conversation does not end with the assistant's"),
        ({"messages": "m"}, {"m": [["a", "b"], "hm"]}, "row 2: a list of messages is needed"),
        (
            {"messages": "m"},
            {"m": [["a", "b"], [{"role": "bot", "content": "x"}]]},
            "row 2: a message has the role 'bot'",
        ),
        (
            {"messages": "m"},
            {"m": [["a", "b"], [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]]},
            "row 2: the conversation does not end with the assistant's response",
        ),
        (
            {"messages": "m"},
            {"m": [["a", "b"], [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]]},
            "row 2: a message of the assistant is empty",
        ),
        (
            {"messages": "m"},
            {"m": [["a", "b"], [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]]},
            "row 2: the conversation does not end with the assistant's response",
        ),
    ],
)
def test_rows_that_teach_nothing_are_refused(task, columns, message: str) -> None:
    with pytest.raises(DataError) as caught:
        InstructionTuning(**task).arrange(split_of(**columns))
    assert message in str(caught.value)
    assert "rows.jsonl" in str(caught.value)


def test_messages_may_be_written_as_json() -> None:
    text = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    assert InstructionTuning(messages="m").arrange(split_of(m=[text])).columns["responses"] == [["b"]]


def test_a_chat_needs_a_template(tokenizer) -> None:
    task = InstructionTuning(messages="m")
    with pytest.raises(UnsupportedError, match="no chat template"):
        task.encode(task.arrange(split_of(m=[["a", "b"]])), tokenizer, ())


def test_a_conversation_that_the_template_refuses_is_named_by_its_row(chat_tokenizer) -> None:
    strict = copy.deepcopy(chat_tokenizer)
    strict.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
    )
    system = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
    task = InstructionTuning(messages="m")
    with pytest.raises(DataError, match="System role not supported") as caught:
        task.encode(task.arrange(split_of(m=[["a", "b"], system])), strict, ())
    assert "row 2" in str(caught.value)


def test_a_response_that_does_not_fit_is_refused_or_dropped_and_counted(tokenizer) -> None:
    columns = {"prompt": ["a", "b"], "response": ["good", "bad " * 30]}
    task = InstructionTuning(max_length=12)
    with pytest.raises(DataError, match=r"row 2: the response has \d+ tokens, which do not fit into max_length 12"):
        task.encode(task.arrange(split_of(**columns)), tokenizer, ())
    task = InstructionTuning(max_length=12, drop_too_long=True)
    found = task.encode(task.arrange(split_of(**columns)), tokenizer, ())
    assert len(found.examples) == 1
    assert found.notes["rows_dropped_response_too_long"] == 1


def test_a_long_prompt_loses_its_beginning_and_is_counted(tokenizer) -> None:
    task = InstructionTuning(max_length=10)
    split = task.arrange(split_of(prompt=["the film was " * 20 + "kind", "a"], response=["good", "bad"]))
    found = task.encode(split, tokenizer, ())
    assert found.notes["prompts_cut"] == 1
    assert len(found.examples[0]["input_ids"]) == 10
    assert tokenizer.decode(found.examples[0]["input_ids"]).endswith("kind\ngood<|endoftext|>")
    assert labelled_text(found.examples[0], tokenizer) == "good<|endoftext|>"


WORDS = ("good", "the film", "a day", "kind", "town in town")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(WORDS)), min_size=1, max_size=5), st.integers(28, 70))
def test_the_last_response_is_never_cut(tokenizer, chat_tokenizer, exchanges, max_length: int) -> None:
    messages = [
        {"role": role, "content": content}
        for words, answer in exchanges
        for role, content in (("user", "saw " * words + "it"), ("assistant", answer))
    ]
    for renderer in (PlainTemplate(tokenizer, "{prompt}: "), ChatTemplate(chat_tokenizer, None)):
        whole = renderer.turns(Conversation(messages), where="here")
        fitted = renderer.fit(Conversation(messages), max_length, where="here")
        assert fitted.turns[-1].response == whole[-1].response
        assert sum(map(len, fitted.turns)) <= max_length
        assert fitted.responses_lost == len(whole) - len(fitted.turns)
        if fitted.responses_lost:  # nothing was given up that would have fitted
            assert sum(map(len, whole[fitted.responses_lost - 1 :])) > max_length
        # The prompt is cut alike, whatever the response.
        prompt, changed = renderer.fit_prompt(Conversation(messages[:-1]), max_length, where="here")
        assert len(prompt) <= max_length
        assert changed == (sum(map(len, whole)) - len(whole[-1].response) > max_length)
        if not changed:
            assert prompt == [token for turn in whole for token in (*turn.before, *turn.response)][: len(prompt)]


def test_a_user_gets_the_prompt_that_evaluation_has_whatever_the_response(chat_tokenizer) -> None:
    task = InstructionTuning(messages="m", max_length=40, max_new_tokens=9)
    long = "the film was a day in town and we saw it then " * 4
    chats = [["a film", "good"], [long, "sad", "the day", "bad"], ["a", "good", long, "bad"]]
    columns = {"m": chats}
    others = {"m": [[*chat[:-1], "kind and bright"] for chat in chats]}
    prompts = task.prompts(split_of(**columns), chat_tokenizer)
    for rows in (columns, others):
        evaluated = task.encode(task.arrange(split_of("test", **rows)), chat_tokenizer, ())
        assert [example["prompt_ids"] for example in evaluated.examples] == [p["input_ids"] for p in prompts]
        assert [example["truncated"] for example in evaluated.examples] == [p["truncated"] for p in prompts]
        assert evaluated.notes["prompts_cut_for_generation"] == 2
    assert [prompt["truncated"] for prompt in prompts] == [False, True, True]
    first, second, third = (chat_tokenizer.decode(prompt["input_ids"]) for prompt in prompts)
    asked = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert first == asked.format("a film")
    assert second.strip() == asked.format("the day").strip(), "an old turn goes as a whole"
    assert 29 <= len(prompts[2]["input_ids"]) <= 31, "room is left for a response"
    end = third.removeprefix("<|im_start|>user\n")
    assert end != third, "the template's own part of the prompt stays"
    assert asked.format(long).endswith(end)


def test_packing_keeps_every_example(tokenizer) -> None:
    columns = {"prompt": [f"the {word}" for word in ("film", "day", "town")], "response": ["good", "bad", "kind"]}
    task = InstructionTuning(max_length=30, packing=True)
    found = task.encode(task.arrange(split_of(**columns)), tokenizer, ())
    assert found.notes["examples_packed"] == 3
    assert len(found.examples) < 3
    learned = "".join(labelled_text(example, tokenizer) for example in found.examples)
    assert sorted(learned.split("<|endoftext|>")) == ["", "bad", "good", "kind"]
    assert not task.supports_virtual_tokens


def test_text_is_only_generated_where_a_metric_needs_it(tokenizer) -> None:
    task = InstructionTuning(max_new_tokens=3)
    split = split_like(task.arrange(split_of(prompt=["the film", "a"], response=["it was a good film", "bad"])), "test")
    examples = task.encode(split, tokenizer, ()).examples
    model = tiny_decoder("gpt2")
    model.resize_token_embeddings(len(tokenizer))
    quick = task.predict_examples(model, examples, 0, Reading(tokenizer, metric="loss"))
    assert [item.prediction for item in quick] == [None, None]
    scorer = task.scorer(())
    scorer.add(quick)
    assert set(scorer.compute()) == {"loss", "perplexity"}
    full = task.scorer(())
    full.add(task.predict_examples(model, examples, 0, Reading(tokenizer)))
    assert set(full.compute()) == set(task.metrics)


def test_a_template_that_rewrites_what_was_said_is_refused(chat_tokenizer) -> None:
    chat_tokenizer.chat_template = "{{ messages | length }}: {{ messages[-1]['content'] }}"
    try:
        renderer = ChatTemplate(chat_tokenizer, None)
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        with pytest.raises(DataError, match="leaves out message 1"):
            renderer.turns(Conversation(messages), where="row 1")
    finally:
        chat_tokenizer.chat_template = CHATML


def test_keys_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must hold `\{prompt\}`"):
        InstructionTuning(template="Q:")
    with pytest.raises(ValueError, match="already says what the columns are called"):
        InstructionTuning(layout="alpaca", prompt="q")
    with pytest.raises(ValueError, match="with `messages`"):
        InstructionTuning(messages="m", response="r")
