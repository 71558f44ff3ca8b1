"""The service answers as `predict` does, for the right adapter, within its limits, and loses nothing it accepted."""

from __future__ import annotations

import gc
import http.client
import json
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.core.address import bind, check_address
from peftlab.core.errors import UserError
from peftlab.core.reporter import Silent
from peftlab.data.streaming import stream_rows
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.predict import predict_rows
from tests.conftest import sentences
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

TEXTS = [text for text, _ in sentences(60, seed=9)]
JSON = {"Content-Type": "application/json"}
Run = Callable[..., Path]


def told_by_predict(folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    tuned = load_tuned(folder, offline=True)
    return list(predict_rows(tuned, stream_rows("texts", [{"text": text} for text in texts], keep=["text"]), Silent()))


def same(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    assert answer["scores"] == pytest.approx(expected["scores"], abs=1e-4)
    assert answer["prediction"] == expected["prediction"] or abs(expected["score"] - 0.5) < 1e-3
    assert answer["truncated"] == expected["truncated"]


@pytest.fixture(scope="module")
def runs(tiny_run: Run) -> dict[str, Path]:
    return {
        "first": tiny_run(seed=0),
        "second": tiny_run(seed=1),
        "third": tiny_run(seed=2),
        "bottleneck": tiny_run("{type: houlsby_adapter}"),
    }


def test_many_clients_get_the_answers_of_their_adapter(start, runs: dict[str, Path]) -> None:
    expected = {name: told_by_predict(folder, TEXTS) for name, folder in runs.items()}
    differing = sum(
        a["prediction"] != b["prediction"] for a, b in zip(expected["first"], expected["second"], strict=True)
    )
    assert differing or expected["first"][0]["scores"] != expected["second"][0]["scores"]
    client = start(runs, batching={"workers": 2})
    riding = {item["name"]: item["rides_with_others"] for item in client.request("GET", "/v1/adapters")[1]["adapters"]}
    assert riding == {"first": True, "second": True, "third": True, "bottleneck": False}

    def ask(number: int) -> None:
        name, at = list(runs)[number % 4], number % len(TEXTS)
        status, body = client.predict([TEXTS[at]], name)
        assert status == 200, body
        assert body["adapter"] == name
        same(body["predictions"][0], expected[name][at])

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(ask, range(240)))
    metrics = client.request("GET", "/metrics")[1]
    batches = float(
        next(line for line in metrics.splitlines() if line.startswith("peftlab_batch_texts_count")).split()[1]
    )
    assert batches < 200, "texts of different requests did not share batches"
    # The base is in memory once, whatever the methods.
    models = {id(hosted.tuned.model): hosted.tuned.model for hosted in client.service.host.models.values()}
    assert len(models) == 2
    embeddings = {model.get_input_embeddings().weight.data_ptr() for model in models.values()}
    assert len(embeddings) == 1
    logged = [json.loads(line) for line in client.log.getvalue().splitlines()]
    assert sum(line["event"] == "request" and line.get("texts") == 1 for line in logged) == 240
    assert not any(text in client.log.getvalue() for text in TEXTS)


def test_when_memory_runs_out_less_is_computed_at_once_and_a_failed_card_is_told(start, runs: dict[str, Path]) -> None:
    expected, held = told_by_predict(runs["first"], TEXTS[:8]), list[weakref.ref[torch.Tensor]]()
    client, most = start({"only": runs["first"]}), 3

    def run_out(_model: object, _words: object, batch: dict[str, Any]) -> None:
        states = torch.zeros(8)
        held.append(weakref.ref(states))
        if not most:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore of it")
        if len(batch["input_ids"]) > most or batch["input_ids"].shape[1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    client.service.host.models["only"].tuned.model.register_forward_pre_hook(run_out, with_kwargs=True)
    gc.disable()  # circles would be found too late
    try:
        status, body = client.predict(TEXTS[:8])
        assert status == 200, body
        for answer, wanted in zip(body["predictions"], expected, strict=True):
            same(answer, wanted)
        assert len(held) > 4, "once for 8 texts, for each half, and for smaller parts of them"
        status, body = client.predict([" ".join(TEXTS[:8])])
        assert (status, body["error"]) == (503, "memory ran out")
        assert not [left for left in held if left() is not None]
    finally:
        gc.enable()
    assert client.predict(TEXTS[:1])[0] == client.request("GET", "/healthz")[0] == 200
    most = 0
    status, body = client.predict(TEXTS[:1])
    assert (status, body["error"]) == (503, "the card has failed: CUDA error: an illegal memory access was encountered")
    assert client.request("GET", "/healthz")[:2] == (503, body)


def test_adapters_share_a_base_in_half_precision(start, tiny_run: Run) -> None:
    """Their matrices and heads are float32: only under autocast do they meet the base."""
    runs = {name: tiny_run(seed=seed, dtype="bfloat16") for seed, name in enumerate(["first", "second", "third"])}
    expected = {name: told_by_predict(folder, TEXTS[:9]) for name, folder in runs.items()}
    client = start(runs, batching={"max_wait_seconds": 0.2})

    def ask(number: int) -> None:
        name = list(runs)[number % 3]
        status, body = client.predict([TEXTS[number % 9]], name)
        assert status == 200, body
        wanted = expected[name][number % 9]
        assert body["predictions"][0]["scores"] == pytest.approx(wanted["scores"], abs=0.02)

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(ask, range(27)))
    assert len({id(hosted.tuned.model) for hosted in client.service.host.models.values()}) == 1


def test_adapters_come_and_go(start, runs: dict[str, Path]) -> None:
    client = start(
        {"first": runs["first"], "second": runs["second"]},
        adapter_folders=(runs["third"].parent,),
        batching={"workers": 2},
    )
    status, body, _ = client.request("POST", "/v1/adapters", {"name": "third", "folder": str(runs["third"])})
    assert status == 201, body
    expected = told_by_predict(runs["third"], TEXTS[:4])
    for answer, wanted in zip(client.predict(TEXTS[:4], "third")[1]["predictions"], expected, strict=True):
        same(answer, wanted)
    assert client.request("POST", "/v1/adapters", {"name": "third", "folder": str(runs["third"])})[0] == 422
    for folder in ("/etc", "/etc\0", "x" * 4000):
        assert client.request("POST", "/v1/adapters", {"name": "x", "folder": folder})[0] == 403
    outcomes: list[int] = []

    def ask(_: int) -> None:
        outcomes.append(client.predict(TEXTS[:3], "first")[0])

    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, number) for number in range(60)]
        time.sleep(0.05)
        assert client.request("DELETE", "/v1/adapters/first")[0] == 204
        for each in asked:
            each.result()
    assert set(outcomes) <= {200, 404}
    assert client.predict(TEXTS[:1], "first")[0] == 404
    remaining = told_by_predict(runs["second"], TEXTS[:4])  # the one that was loaded first has gone
    for answer, wanted in zip(client.predict(TEXTS[:4], "second")[1]["predictions"], remaining, strict=True):
        same(answer, wanted)


def test_bad_requests(start, runs: dict[str, Path]) -> None:
    limits = {"max_text_characters": 100, "max_texts": 4, "max_body_bytes": 2000, "max_queue": 3}
    client = start({"first": runs["first"], "second": runs["second"]}, limits=limits)
    refused: list[tuple[Any, int, str]] = [
        ({"texts": ["a"], "adapter": "frist"}, 404, "no adapter `frist`"),
        ({"texts": ["a"]}, 404, "names no adapter"),
        ({"texts": [], "adapter": "first"}, 422, "texts"),
        ({"texts": ["x" * 101], "adapter": "first"}, 422, "101 characters"),
        ({"texts": ["a"] * 5, "adapter": "first"}, 422, "5 texts"),
        ({"texts": ["  "], "adapter": "first"}, 422, "empty"),
        ({"texts": [["a", "b"]], "adapter": "first"}, 422, "must be a string"),
        ({"texts": ["a", "half \ud800"], "adapter": "first"}, 422, "texts[1]: the column `text` holds half of a char"),
        ({"texts": ["a", "\u200b"], "adapter": "first"}, 422, "texts[1]: the column `text` is missing or empty"),
        ({"texts": ["a"] * 4, "adapter": "first"}, 429, "too many"),
        ({"texts": ["a"], "adapter": "first", "more": 1}, 422, "`more` is no key of this route"),
        ({"adapter": "first"}, 422, "`texts` is missing"),
        (b"{broken", 422, "the body is not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b"[]", 422, "the body is no object of JSON"),
        (b"", 422, "the body is empty"),
        (b"x" * 2001, 413, "larger than 2000"),
    ]
    for body, status, text in refused:
        got, answer, headers = client.request("POST", "/v1/predict", body)
        assert (got, text in answer["error"]) == (status, True), (body, got, answer)
        assert not re.search(r"row|data\.", f"{answer}")
        assert status != 429 or int(headers["retry-after"]) >= 1
    unmarked = client.request("POST", "/v1/predict", b'{"texts": ["a"]}', **{"Content-Type": "text/plain"})[1]
    assert unmarked["error"] == "the body is not marked as JSON"
    assert "application/json" in unmarked["hint"]
    for method, path, status, text in (
        ("GET", "/nothing", 404, "there is no route /nothing"),
        ("GET", "/v1/predict", 405, "/v1/predict does not take GET"),
    ):
        got, answer, _ = client.request(method, path)
        assert (got, answer) == (status, {"error": text, "hint": "/docs describes all routes."})
    assert client.request("GET", "/healthz")[1] == {"status": "ok", "adapters": 2, "waiting": 0}
    assert "/v1/predict" in client.request("GET", "/openapi.json")[1]["paths"]
    long = client.predict(["the film " * 11 + "a b c d e f g h i j k l m"], "first")
    assert long[0] == 422 or not long[1]["predictions"][0]["truncated"]


def test_a_body_that_grows_or_never_ends(start, runs: dict[str, Path]) -> None:
    client = start({"first": runs["first"]}, limits={"max_body_bytes": 2000, "request_timeout_seconds": 1})
    for chunk, wanted in ((b"x" * 3000, b" 413 "), (b"{", b" 408 ")):
        with socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE) as connection:
            head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + b"%x\r\n%s\r\n" % (len(chunk), chunk))
            assert wanted in connection.recv(200)


def test_a_token(start, runs: dict[str, Path]) -> None:
    client = start({"first": runs["first"]}, token="a long secret")
    assert client.request("GET", "/v1/adapters")[0] == 401
    assert client.request("GET", "/v1/adapters", Authorization="Bearer a long secreT")[0] == 401
    assert client.request("GET", "/v1/adapters", Authorization="Bearer a long secret")[0] == 200
    assert client.request("GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),  # a site that has let its name point here
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_pages_of_other_sites_get_no_answer(start, runs: dict[str, Path], headers: dict[str, str], status: int) -> None:
    client = start({"first": runs["first"]})
    assert client.request("POST", "/v1/predict", {"texts": ["a good film"]}, **headers)[0] == status
    if "Host" in headers:
        refused, told, *_ = client.request("GET", "/v1/adapters", **headers)
        assert refused == status
        assert "'evil.example'" in told["error"]
        assert "PEFTLAB_TOKEN" in told["hint"]


def test_who_has_the_token_may_come_by_any_name(start, runs: dict[str, Path]) -> None:
    client = start({"first": runs["first"]}, token="a long secret")
    headers = {"Authorization": "Bearer a long secret", "Host": "models.example", "Origin": "https://app.example"}
    assert client.request("POST", "/v1/predict", {"texts": ["a good film"]}, **headers)[0] == 200


def test_what_was_accepted_is_finished(start, runs: dict[str, Path]) -> None:
    client = start({"first": runs["first"]}, batching={"max_batch": 2, "workers": 2})
    statuses: list[int] = []
    began = threading.Barrier(9)

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=PATIENCE)
        connection.request("POST", "/v1/predict", json.dumps({"texts": TEXTS[number : number + 20]}), JSON)
        began.wait()
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    began.wait()
    while client.service.batcher.accepted < 8 * 20:
        time.sleep(0.01)
    client.server.should_exit = True
    for thread in threads:
        thread.join(PATIENCE)
    assert statuses == [200] * 8


def test_clients_that_hang_up_leave_room(start, runs: dict[str, Path]) -> None:
    client = start(
        {"first": runs["first"]}, limits={"max_queue": 64}, batching={"max_batch": 1, "max_wait_seconds": 0.0}
    )
    body = json.dumps({"texts": TEXTS[:60]}).encode()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE) as connection:
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
            connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        time.sleep(0.02)
    deadline = time.monotonic() + PATIENCE
    while client.service.batcher.waiting:
        assert time.monotonic() < deadline, "what nobody waits for still waits"
        time.sleep(0.02)
    assert client.predict(TEXTS[:60])[0] == 200


def test_another_base_is_refused(start, runs: dict[str, Path], tiny_run: Run) -> None:
    with pytest.raises(UserError, match="another base"):
        start({"first": runs["first"], "other": tiny_run(base="gpt2")})


def test_addresses_and_ports() -> None:
    for address in ("127.0.0.1", "localhost", "::1"):
        check_address(address, None)
    with pytest.raises(UserError, match="no token"):
        check_address("192.0.2.1", None)
    check_address("192.0.2.1", "a long secret")
    with bind("127.0.0.1", 0) as taken, pytest.raises(UserError, match="cannot listen"):
        bind("127.0.0.1", taken.getsockname()[1])
