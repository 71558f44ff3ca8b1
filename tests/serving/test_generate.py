"""`/v1/generate` writes what `predict` writes, for the right adapter, whole or as a stream, and stops with its client."""

from __future__ import annotations

import csv
import gc
import http.client
import json
import socket
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.core.errors import UserError
from peftlab.core.reporter import Silent
from peftlab.data.streaming import stream_rows
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.predict import answer_rows
from tests.conftest import sentences
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

# Long responses and one step: a random model that has learned to end at once would write nothing.
ROWS = [(text, text) for text, _ in sentences(80, seed=4)]
TEXTS = [text for text, _ in ROWS[:30]]
INSTRUCT = "{type: instruction_tuning, max_length: 60, max_new_tokens: 6}"
JSON = {"Content-Type": "application/json"}
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def runs(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "response"), *ROWS])
    shared: dict[str, Any] = {"base": "gpt2", "data": path, "steps": 1}
    return {
        "first": tiny_run(task=INSTRUCT, **shared),
        "second": tiny_run(task=INSTRUCT, seed=1, **shared),
        "prompted": tiny_run("{type: prompt_tuning, num_virtual_tokens: 2}", task=INSTRUCT, **shared),
        "classes": tiny_run(base="gpt2"),
    }


@pytest.fixture(scope="module")
def expected(runs: dict[str, Path]) -> dict[str, list[str]]:
    def told(folder: Path) -> list[str]:
        rows = stream_rows("texts", [{"prompt": text} for text in TEXTS], keep=["prompt"])
        return [answer["generated"] for answer in answer_rows(load_tuned(folder, offline=True), rows, Silent())]

    return {name: told(folder) for name, folder in runs.items() if name != "classes"}


def generate(client: Any, text: str, **keys: Any) -> tuple[int, Any]:
    status, body, _ = client.request("POST", "/v1/generate", {"text": text, **keys})
    return status, body


def events(body: str) -> list[tuple[str, Any]]:
    found = []
    for block in body.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event", "message"), json.loads(lines["data"])))
    return found


def test_many_clients_get_the_texts_of_their_adapter(start, runs: dict[str, Path], expected: dict[str, Any]) -> None:
    assert len({tuple(texts) for texts in expected.values()}) == 3, "adapters that write alike would prove nothing"
    client = start(runs)
    listed = {item["name"]: item for item in client.request("GET", "/v1/adapters")[1]["adapters"]}
    assert {name: item["generates"] for name, item in listed.items()} == {
        **dict.fromkeys(expected, True),
        "classes": False,
    }

    def ask(number: int) -> None:
        name, at = list(expected)[number % 3], number % len(TEXTS)
        streamed = number % 4 == 0
        status, body = generate(client, TEXTS[at], adapter=name, stream=streamed)
        assert status == 200, body
        if streamed:
            *pieces, (kind, last) = events(body)
            assert kind == "done"
            assert "".join(piece["text"] for _, piece in pieces) == last["generated"]
            body = last
        assert (body["adapter"], body["generated"]) == (name, expected[name][at])
        assert body["finish_reason"] == ("length" if body["new_tokens"] == 6 else "stop")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(90)))
    models = {id(hosted.tuned.model) for name, hosted in client.service.host.models.items() if name != "classes"}
    assert len(models) == 2, "two LoRA runs share one model"
    metrics = client.request("GET", "/metrics")[1]
    counts = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(counts["peftlab_batch_texts_sum"]) > 2 * float(counts["peftlab_batch_texts_count"]), "no shared steps"
    assert float(counts['peftlab_generated_tokens_total{adapter="first"}']) > 0
    assert not any(text in client.log.getvalue() for text in TEXTS)
    logged = [json.loads(line) for line in client.log.getvalue().splitlines()]
    assert sum(line.get("route") == "/v1/generate" and line["status"] == 200 for line in logged) == 90


def test_adapters_come_and_go(start, runs: dict[str, Path], expected: dict[str, Any]) -> None:
    client = start({"first": runs["first"]}, adapter_folders=(runs["second"].parent,))
    assert client.request("POST", "/v1/adapters", {"name": "second", "folder": str(runs["second"])})[0] == 201
    assert generate(client, TEXTS[0], adapter="second")[1]["generated"] == expected["second"][0]
    assert generate(client, TEXTS[0], adapter="first")[1]["generated"] == expected["first"][0]
    assert client.request("DELETE", "/v1/adapters/first")[0] == 204
    assert generate(client, TEXTS[0], adapter="first")[0] == 404
    for text, wanted in zip(TEXTS[:5], expected["second"], strict=False):
        assert generate(client, text)[1]["generated"] == wanted


def test_messages_and_options(start, runs: dict[str, Path], expected: dict[str, Any]) -> None:
    client = start({"first": runs["first"]})
    said = {"role": "user", "content": TEXTS[0]}
    status, body, _ = client.request("POST", "/v1/generate", {"messages": [said]})
    assert (status, body["generated"]) == (200, expected["first"][0])
    more = [said, {"role": "assistant", "content": "good"}, {"role": "user", "content": TEXTS[1]}]
    longer = client.request("POST", "/v1/generate", {"messages": more})[1]
    assert longer["prompt_tokens"] > body["prompt_tokens"]
    assert generate(client, TEXTS[0], max_new_tokens=1)[1]["new_tokens"] <= 1
    drawn = {generate(client, TEXTS[0], max_new_tokens=12, temperature=5.0)[1]["generated"] for _ in range(6)}
    assert len(drawn) > 1
    # A drawn text changes no other: the next greedy one is as before.
    assert generate(client, TEXTS[0])[1]["generated"] == expected["first"][0]


def test_a_long_prompt_is_cut_as_by_predict_and_said_to_be(start, runs: dict[str, Path]) -> None:
    client = start({"first": runs["first"]})
    text = " ".join(TEXTS[:12])
    rows = stream_rows("texts", [{"prompt": text}], keep=["prompt"])
    (expected,) = answer_rows(load_tuned(runs["first"], offline=True), rows, Silent())
    said = [{"role": "user", "content": TEXTS[0]}, {"role": "assistant", "content": "good"}]
    asked = [{"text": text}, {"messages": [*said, {"role": "user", "content": text}]}]
    for body in (*asked, {**asked[0], "stream": True}):
        status, answer, _ = client.request("POST", "/v1/generate", body)
        answer = answer if isinstance(answer, dict) else events(answer)[-1][1]
        assert (status, answer["truncated"], answer["prompt_tokens"]) == (200, True, 54)
        assert answer["generated"] == expected["generated"]
    assert generate(client, TEXTS[0])[1]["truncated"] is False


def test_bad_requests(start, runs: dict[str, Path], tiny_run: Run) -> None:
    limits = {"max_text_characters": 400, "max_new_tokens": 40, "max_body_bytes": 4000}
    client = start({"first": runs["first"], "classes": runs["classes"]}, limits=limits)
    user = {"role": "user", "content": "a"}
    refused: list[tuple[Any, int, str]] = [
        ({"text": "a", "adapter": "frist"}, 404, "no adapter `frist`"),
        ({"text": "a"}, 404, "names no adapter"),
        ({"text": "a", "adapter": "classes"}, 422, "writes no text"),
        ({"adapter": "first"}, 422, "either `text` or `messages`"),
        ({"text": "a", "messages": [user], "adapter": "first"}, 422, "either `text` or `messages`"),
        ({"text": "a", "adapter": "first", "more": 1}, 422, "more"),
        ({"text": "  ", "adapter": "first"}, 422, "is empty"),
        ({"text": "x" * 401, "adapter": "first"}, 422, "401 characters"),
        ({"messages": [{**user, "content": "x" * 401}], "adapter": "first"}, 422, "401 characters"),
        ({"text": "a day " * 40, "adapter": "first", "max_new_tokens": 40}, 422, "the model has room for"),
        ({"text": "half \ud800", "adapter": "first"}, 422, "text: the column"),
        ({"messages": [{**user, "content": "half \ud800"}], "adapter": "first"}, 422, "half of a character"),
        ({"messages": [{**user, "role": "nobody"}], "adapter": "first"}, 422, "role 'nobody'"),
        ({"messages": [user, user], "adapter": "first"}, 422, "turn is"),
        ({"messages": [], "adapter": "first"}, 422, "messages"),
        ({"text": "a", "adapter": "first", "max_new_tokens": 41}, 422, "40 are allowed"),
        ({"text": "a", "adapter": "first", "max_new_tokens": 0}, 422, "max_new_tokens"),
        ({"text": "a", "adapter": "first", "temperature": -1}, 422, "temperature"),
        (b"{broken", 422, "JSON"),
        (b"x" * 4001, 413, "larger than 4000"),
    ]
    for body, status, text in refused:
        for stream in (False, True):
            asked = {**body, "stream": stream} if isinstance(body, dict) else body
            got, answer, _ = client.request("POST", "/v1/generate", asked)
            assert (got, text in answer["error"]) == (status, True), (asked, got, answer)
    status, answer = client.predict(["a"], "first")
    assert (status, answer["hint"]) == (422, "Ask /v1/generate.")
    assert "/v1/generate" in client.request("GET", "/openapi.json")[1]["paths"]
    with pytest.raises(UserError, match="fill gaps"):
        start({"masked": tiny_run(task="{type: masked_lm, max_length: 16}")})


class Slowly:
    """Slows a model down, and lets no text end, so that a test can act while it writes; counts its passes."""

    def __init__(self, client: Any, seconds: float) -> None:
        self.passes = 0
        tuned = next(iter(client.service.host.models.values())).tuned
        end = tuned.tokenizer.eos_token_id

        def wait(*_: Any) -> None:
            self.passes += 1
            time.sleep(seconds)

        def go_on(_module: Any, _inputs: Any, logits: torch.Tensor) -> None:
            logits[..., end] = -1e4  # a text that is drawn would end by chance

        self._seconds = seconds
        head = tuned.model.get_output_embeddings()
        head.register_forward_pre_hook(wait)
        head.register_forward_hook(go_on)

    def has_stopped_after(self) -> int:
        """The number of its passes, once none has come for the time of several."""
        deadline, before = time.monotonic() + PATIENCE, -1
        while before != self.passes:
            assert time.monotonic() < deadline, "it never stops"
            before = self.passes
            time.sleep(5 * self._seconds)
        return self.passes


LONG = {"text": "the film", "max_new_tokens": 50, "temperature": 10.0}


def test_a_model_whose_logits_are_no_numbers_says_so(start, runs: dict[str, Path]) -> None:
    client = start({"only": runs["first"]})
    model = client.service.host.models["only"].tuned.model
    with torch.no_grad():
        next(value for name, value in model.named_parameters() if name.endswith("wte.weight")).fill_(float("nan"))
    status, problem = generate(client, TEXTS[0])
    assert (status, problem["error"]) == (500, "the model gives logits that are not finite")
    assert events(generate(client, TEXTS[0], stream=True)[1]) == [("error", problem)]
    assert "defect" not in client.log.getvalue()


def test_when_memory_runs_out_those_who_wait_are_told_and_nothing_is_kept(start, runs: dict[str, Path]) -> None:
    client, held = start({"only": runs["first"]}), list[weakref.ref[torch.Tensor]]()

    def run_out(*_: object) -> None:
        states = torch.zeros(8)
        held.append(weakref.ref(states))
        if len(held) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = client.service.host.models["only"].tuned.model.register_forward_pre_hook(run_out)
    gc.disable()  # circles would be found too late
    try:
        status, problem = generate(client, TEXTS[0], max_new_tokens=50, temperature=10.0)
        assert (status, problem["error"]) == (503, "memory ran out")
        assert not [left for left in held if left() is not None]
    finally:
        gc.enable()
    hook.remove()
    assert generate(client, TEXTS[0])[0] == 200


def test_texts_and_predictions_come_while_another_text_is_written(
    start, runs: dict[str, Path], expected: dict[str, Any]
) -> None:
    client = start({name: runs[name] for name in ("first", "second", "classes")}, batching={"max_batch": 2})
    slow = Slowly(client, 0.08)
    with ThreadPoolExecutor(3) as pool:
        long = pool.submit(client.request, "POST", "/v1/generate", {**LONG, "adapter": "first"})
        while slow.passes < 2:
            time.sleep(0.01)
        asked = [pool.submit(generate, client, TEXTS[0], adapter=name) for name in ("first", "second")]
        assert client.predict(TEXTS[:2], "classes")[0] == 200
        written = [each.result()[1]["generated"] for each in asked]
        assert not long.done(), "whoever came later waited for the long text"
        assert written == [expected["first"][0], expected["second"][0]]
        assert long.result()[1]["new_tokens"] > 10


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_stops_the_model(start, runs: dict[str, Path], stream: bool) -> None:
    name = "first" if stream else "prompted"  # one whose texts are joined by others, and one whose are not
    client = start({name: runs[name]})
    slow = Slowly(client, 0.1)
    body = json.dumps({**LONG, "stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE) as connection:
        connection.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        while slow.passes < 2:
            time.sleep(0.01)
    assert slow.has_stopped_after() < 40  # of fifty
    assert generate(client, TEXTS[0])[0] == 200


def test_late_answers_and_full_queues(start, runs: dict[str, Path]) -> None:
    client = start({"prompted": runs["prompted"]}, limits={"request_timeout_seconds": 1.5, "max_queue": 1})
    slow = Slowly(client, 0.2)
    assert client.request("POST", "/v1/generate", LONG)[0] == 504
    status, body, _ = client.request("POST", "/v1/generate", {**LONG, "stream": True})
    assert status == 200
    assert events(body)[-1][0] == "error"
    assert slow.has_stopped_after() < 40, "the model goes on for nobody"  # of a hundred
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.request("POST", "/v1/generate", LONG), range(4)))
    full = [headers for status, _, headers in answers if status == 429]
    assert full
    assert all(int(headers["retry-after"]) >= 1 for headers in full)


def test_a_stream_that_was_accepted_is_finished(start, runs: dict[str, Path]) -> None:
    client = start({"prompted": runs["prompted"]})
    slow = Slowly(client, 0.05)
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=PATIENCE)
    connection.request("POST", "/v1/generate", json.dumps({"text": TEXTS[0], "stream": True}), JSON)
    answer = connection.getresponse()
    while not slow.passes:
        time.sleep(0.01)
    client.server.should_exit = True
    assert events(answer.read().decode())[-1][0] == "done"
    connection.close()
