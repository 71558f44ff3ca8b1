"""``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models`` by OpenAI's own client: the texts of ``/v1/generate``."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from tests.conftest import sentences

pytestmark = pytest.mark.slow

TEXTS = [text for text, _ in sentences(12, seed=4)]
SAID: list[Any] = [{"role": "user", "content": TEXTS[0]}]


@pytest.fixture(scope="module")
def runs(tiny_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "response"), *((text, text) for text in TEXTS)])
    task = "{type: instruction_tuning, max_length: 60, max_new_tokens: 6}"
    shared: dict[str, Any] = {"base": "gpt2", "data": path, "steps": 1, "task": task}
    return {"first": tiny_run(**shared), "second": tiny_run(seed=1, **shared), "classes": tiny_run(base="gpt2")}


def client_of(served: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", max_retries=0)


def test_chats_and_texts_are_those_of_generate(start: Any, runs: dict[str, Path]) -> None:
    served = start(runs)
    client = client_of(served)
    assert [model.id for model in client.models.list()] == ["classes", "first", "second"]
    assert client.models.retrieve("first").id == "first"
    with pytest.raises(openai.NotFoundError, match="there is no adapter `third`"):
        client.models.retrieve("third")
    written = set()
    for name in ("first", "second"):
        own = served.request("POST", "/v1/generate", {"messages": SAID, "adapter": name})[1]
        chat = client.chat.completions.create(model=name, messages=SAID, n=1, top_p=1.0, stop=None)
        text = client.completions.create(model=name, prompt=[TEXTS[0]])
        assert chat.choices[0].message.content == text.choices[0].text == own["generated"]
        assert chat.choices[0].finish_reason == text.choices[0].finish_reason == own["finish_reason"]
        assert chat.usage is not None
        assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (own["prompt_tokens"], own["new_tokens"])
        written.add(own["generated"])
    assert len(written) == 2, "adapters that write alike would prove nothing"
    # The client's own newer names: the developer's words are the system's, and a shorter limit.
    told: list[Any] = [{"role": "developer", "content": TEXTS[1]}, *SAID]
    short = client.chat.completions.create(model="first", messages=told, max_completion_tokens=1, temperature=0)
    same = [{**told[0], "role": "system"}, *SAID]
    own = served.request("POST", "/v1/generate", {"messages": same, "adapter": "first", "max_new_tokens": 1})[1]
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == (own["generated"], "length")
    assert '"route": "/v1/chat/completions"' in served.log.getvalue()


def test_a_stream_ends_with_its_reason_and_its_tokens(start: Any, runs: dict[str, Path]) -> None:
    served = start({"first": runs["first"]})
    client = client_of(served)
    whole = client.chat.completions.create(model="first", messages=SAID)
    asked: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = client.chat.completions.create(model="first", messages=SAID, **asked)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert (last.choices, last.usage) == ([], whole.usage)
    assert len({chunk.id for chunk in (*chunks, last)}) == 1
    texts = list(client.completions.create(model="first", prompt=TEXTS[0], stream=True))
    assert "".join(chunk.choices[0].text for chunk in texts) == whole.choices[0].message.content
    assert (texts[-1].choices[0].finish_reason, texts[-1].usage) == (whole.choices[0].finish_reason, None)
    # An error behind the first chunk reaches the client as one.
    model = served.service.host.models["first"].tuned.model
    with torch.no_grad():
        next(value for name, value in model.named_parameters() if name.endswith("wte.weight")).fill_(float("nan"))
    with pytest.raises(openai.APIError, match="not finite"):
        list(client.chat.completions.create(model="first", messages=SAID, stream=True))


def test_what_cannot_be_had_is_refused_with_the_reason(start: Any, runs: dict[str, Path]) -> None:
    served = start({"first": runs["first"], "classes": runs["classes"]}, limits={"max_new_tokens": 40})
    chat = {"model": "first", "messages": SAID}
    refused: list[tuple[str, dict[str, Any], int, str]] = [
        ("chat/completions", {**chat, "model": "frist"}, 404, "no adapter `frist`"),
        ("chat/completions", {**chat, "model": "classes"}, 422, "writes no text"),
        ("chat/completions", {**chat, "n": 2}, 422, "`n` cannot be had here"),
        ("chat/completions", {**chat, "top_p": 0.9}, 422, "`top_p` cannot be had here"),
        ("chat/completions", {**chat, "stop": ["\n"]}, 422, "`stop` cannot be had here"),
        ("chat/completions", {**chat, "logprobs": True}, 422, "`logprobs` cannot be had here"),
        ("chat/completions", {**chat, "response_format": {"type": "json_object"}}, 422, "`response_format`"),
        ("chat/completions", {**chat, "seed": 1, "temperature": 1}, 422, "cannot be drawn again"),
        ("chat/completions", {**chat, "max_tokens": 41}, 422, "40 are allowed"),
        ("chat/completions", {**chat, "messages": []}, 422, "messages"),
        ("chat/completions", {**chat, "messages": [{"role": "nobody", "content": "a"}]}, 422, "role 'nobody'"),
        ("chat/completions", {**chat, "more": 1}, 422, "more"),
        ("completions", {"model": "first", "prompt": ["a", "b"]}, 422, "`prompt` must be one text"),
        ("responses", {"model": "first", "input": "a"}, 404, "there is no route /v1/responses"),
        ("completions", {"model": "first", "prompt": " "}, 422, "is empty"),
        ("completions", {"model": "first", "prompt": "a", "echo": True}, 422, "`echo` cannot be had here"),
    ]
    for path, body, status, text in refused:
        got, answer, _ = served.request("POST", f"/v1/{path}", body)
        assert (got, text in answer["error"]["message"]) == (status, True), (body, got, answer)
        assert "Value error" not in answer["error"]["message"]
    for more in ({"seed": 1}, {"seed": 1, "temperature": 0}, {"stop": []}, {"response_format": {"type": "text"}}):
        assert served.request("POST", "/v1/chat/completions", {**chat, **more})[0] == 200
    with pytest.raises(openai.UnprocessableEntityError, match="top_p"):
        client_of(served).chat.completions.create(model="first", messages=SAID, top_p=0.5)
