"""Load on `peftlab serve`, with faults, on the loopback: no wrong answer, nothing lost, and how fast.

    python benchmarks/serving/load.py RUN RUN RUN RUN --requests 10000 --output results.json

It asks `peftlab predict` for the right answers, and says for how many texts these tell the adapters apart: where two
adapters give the same answer, a mix-up would not be seen. It starts the service in a process of its own and measures
one request at a time, with a service that does not wait for others; then it sends the requests from many clients at
once, over all adapters and texts of mixed lengths. Meanwhile some clients hang up, some send bodies that are too large
or broken, and one adapter is removed half-way and added again. It exits with 1 if an answer is wrong, a request is
left without an answer, a fault is answered with another status than it should be, or the service does not end in order.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import itertools
import json
import queue
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST_DIFFERENCE = 1e-4
"""Of two scores: the same text in another batch is summed in another order."""
NEAR_TIE = 1e-3
PATIENCE = 600
"""Seconds for what a busy machine does late, such as to start the service."""


def main() -> int:
    """Run the whole test and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs of one base")
    parser.add_argument("--texts", type=Path, help="a file with a text a line; by default words of many lengths")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--alone", type=int, default=300, help="requests that are sent one at a time, for comparison")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--faults", type=float, default=0.02, help="share of requests that are followed by a fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    texts = read_texts(options.texts, options.seed)
    runs = {f"adapter-{number}": run.resolve() for number, run in enumerate(options.runs)}
    expected = {name: ask_predict(run, texts) for name, run in runs.items()}
    with Service(runs, "--max-wait-ms", "0") as service:
        alone = Load(service, runs, expected, texts, clients=1, faults=0.0, seed=options.seed)
        alone.send(options.alone, leaving=None)
        service.stop()
    with Service(runs) as service:
        load = Load(service, runs, expected, texts, options.clients, options.faults, options.seed + 1)
        load.send(options.requests, leaving=next(reversed(runs)) if len(runs) > 1 else None)
        metrics = service.request("GET", "/metrics")[1].decode()
        stopped = service.stop()
    found = {
        "adapters": len(runs),
        "texts": len(texts),
        "texts_that_tell_adapters_apart": tell_apart(expected),
        "clients": options.clients,
        "one_at_a_time": alone.summary(),
        "under_load": load.summary(),
        "speedup": load.summary()["predictions_per_second"] / alone.summary()["predictions_per_second"],
        "texts_per_batch": mean_batch(metrics),
        "exit_status_of_the_service": stopped,
    }
    text = json.dumps(found, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 1 if alone.problems or load.problems or stopped != 0 else 0


def read_texts(path: Path | None, seed: int) -> list[str]:
    """Distinct texts of 1 to 60 words."""
    if path is not None:
        return list(dict.fromkeys(line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()))
    words = ["the", "day", "we", "saw", "love", "hate", "fine", "great", "awful", "train", "late", "never", "thanks"]
    generator = random.Random(seed)  # noqa: S311
    return list(
        dict.fromkeys(" ".join(generator.choices(words, k=1 + int(60 * generator.random() ** 3))) for _ in range(400))
    )


def ask_predict(run: Path, texts: list[str]) -> list[dict[str, Any]]:
    """The right answers."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "texts.jsonl", Path(folder) / "answers.jsonl"
        column = text_column(run)
        source.write_text("".join(json.dumps({column: text}) + "\n" for text in texts), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "peftlab",
            "predict",
            str(run),
            "--input",
            str(source),
            "--output",
            str(target),
        ]
        subprocess.run([*command, "--offline"], check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


def text_column(run: Path) -> str:
    """The name of the text column, from the run's record."""
    return str(json.loads((run / "record.json").read_text(encoding="utf-8"))["recipe"]["task"]["text"])


class Service:
    """`peftlab serve` in a process of its own."""

    def __init__(self, runs: dict[str, Path], *options: str) -> None:
        self.runs, self.options = runs, options

    def __enter__(self) -> Service:
        named = [f"{name}={run}" for name, run in self.runs.items()]
        command = [sys.executable, "-m", "peftlab", "serve", *named, "--port", "0", "--offline", *self.options]
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log", delete=False)
        self.process = subprocess.Popen(command, stderr=self.log, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", Path(self.log.name).read_text(encoding="utf-8"))
            if found:
                self.port = int(found[1])
                while self.request("GET", "/healthz")[0] != 200:
                    time.sleep(0.1)
                return self
            time.sleep(0.2)
        raise RuntimeError(f"the service did not start: {Path(self.log.name).read_text(encoding='utf-8')[-2000:]}")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        Path(self.log.name).unlink()

    def stop(self) -> int:
        """Ask it to stop, and wait."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Load:
    """Requests from several clients, and what became of them."""

    def __init__(
        self,
        service: Service,
        runs: dict[str, Path],
        expected: dict[str, list[dict[str, Any]]],
        texts: list[str],
        clients: int,
        faults: float,
        seed: int,
    ) -> None:
        self.service, self.runs, self.expected, self.texts = service, runs, expected, texts
        self.clients, self.fault_share, self.generator = clients, faults, random.Random(seed)  # noqa: S311
        self.lock = threading.Lock()
        self.latencies: list[float] = []
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        self.absent = threading.Event()
        self.seconds = 0.0

    def send(self, count: int, leaving: str | None) -> None:
        """Send requests; remove the adapter ``leaving`` after half of them, and add it again."""
        jobs: queue.Queue[tuple[str, int] | None] = queue.Queue()
        for _ in range(count):
            jobs.put((self.generator.choice(list(self.runs)), self.generator.randrange(len(self.texts))))
        for _ in range(self.clients):
            jobs.put(None)
        started = time.perf_counter()
        threads = [threading.Thread(target=self._client, args=(jobs, leaving, seed)) for seed in range(self.clients)]
        for thread in threads:
            thread.start()
        if leaving is not None:
            while jobs.qsize() > count // 2:
                time.sleep(0.01)
            self._replace(leaving)
        for thread in threads:
            thread.join()
        self.seconds = time.perf_counter() - started
        answered = sum(number for outcome, number in self.outcomes.items() if outcome.isdigit())
        if answered != count:
            self._problem(f"{count} requests were sent, and {answered} answered")

    def _replace(self, name: str) -> None:
        self.absent.set()
        status, _ = self.service.request("DELETE", f"/v1/adapters/{name}")
        self._expect("remove an adapter", status, 204)
        body = json.dumps({"name": name, "folder": str(self.runs[name])}).encode()
        status, _ = self.service.request("POST", "/v1/adapters", body)
        self._expect("add an adapter", status, 201)
        time.sleep(1)  # whoever asked while it was away has heard of it by now
        self.absent.clear()

    def _client(self, jobs: queue.Queue[tuple[str, int] | None], leaving: str | None, seed: int) -> None:
        generator = random.Random(seed)  # noqa: S311
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        for name, at in iter(jobs.get, None):
            try:
                self._ask(connection, name, at, leaving)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self._problem(f"a request was lost: {error!r}")
                connection.close()
            if generator.random() < self.fault_share:
                try:
                    self._fault(generator)
                except (OSError, http.client.HTTPException) as error:
                    self._problem(f"a fault was not answered: {error!r}")
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, name: str, at: int, leaving: str | None) -> None:
        body = json.dumps({"adapter": name, "texts": [self.texts[at]]}).encode()
        started, gone = time.perf_counter(), self.absent.is_set()
        while True:
            connection.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = json.loads(answer.read())
            if answer.status != 429:
                break
            with self.lock:
                self.outcomes["429, sent again"] += 1
            time.sleep(float(answer.headers["Retry-After"]))
        with self.lock:
            self.outcomes[str(answer.status)] += 1
            if answer.status == 200:  # a refusal costs next to nothing, and is no throughput
                self.latencies.append(time.perf_counter() - started)
        if answer.status == 404 and name == leaving and (gone or self.absent.is_set()):
            return
        if answer.status != 200:
            self._problem(f"status {answer.status} for a good request to {name}: {found}")
        elif found["adapter"] != name or not same(found["predictions"][0], self.expected[name][at]):
            self._problem(f"a wrong answer from {name} to text {at}: {found}")

    def _fault(self, generator: random.Random) -> None:
        kind = generator.choice(["hangs up", "too large", "broken JSON"])
        with self.lock:
            self.faults[kind] += 1
        if kind == "too large":
            try:
                status, _ = self.service.request("POST", "/v1/predict", b"x" * 1_100_000)
                self._expect(kind, status, 413)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused by the size alone, before all of it was sent
        elif kind == "broken JSON":
            status, _ = self.service.request("POST", "/v1/predict", b'{"texts": ["never ends')
            self._expect(kind, status, 422)
        else:
            body = json.dumps({"adapter": next(iter(self.runs)), "texts": [generator.choice(self.texts)]}).encode()
            with socket.create_connection(("127.0.0.1", self.service.port), timeout=60) as connection:
                head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                cut = generator.choice([len(body) // 2, len(body)])  # in the middle of the body, or before the answer
                connection.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body[:cut]))

    def _expect(self, what: str, status: int, wanted: int) -> None:
        if status != wanted:
            self._problem(f"{what}: status {status} instead of {wanted}")

    def _problem(self, text: str) -> None:
        with self.lock:
            self.problems.append(text)

    def summary(self) -> dict[str, Any]:
        """What was found."""
        ordered = sorted(self.latencies)
        return {
            "predictions": len(ordered),
            "seconds": self.seconds,
            "predictions_per_second": len(ordered) / self.seconds,
            "milliseconds": {
                f"p{share}": 1000 * ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
                for share in (50, 90, 99)
            },
            "outcomes": dict(self.outcomes),
            "faults": dict(self.faults),
            "problems": len(self.problems),
            "first_problems": self.problems[:5],
        }


def tell_apart(expected: dict[str, list[dict[str, Any]]]) -> float:
    """The share of texts to which no two adapters give the same answer."""
    told = list(zip(*expected.values(), strict=True))
    apart = [all(not same(one, other) for one, other in itertools.combinations(answers, 2)) for answers in told]
    return sum(apart) / len(apart)


def same(answer: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether an answer is the one that `peftlab predict` gives, up to rounding."""
    scores, wanted = answer["scores"], expected["scores"]
    if scores.keys() != wanted.keys() or any(abs(scores[key] - wanted[key]) > LARGEST_DIFFERENCE for key in scores):
        return False
    first, second = sorted(wanted.values())[-1:-3:-1]
    return bool(answer["prediction"] == expected["prediction"] or first - second < NEAR_TIE)


def mean_batch(metrics: str) -> float:
    """Texts of a batch, on average, from the service's own metrics."""
    values = dict(_values(metrics))
    return values["peftlab_batch_texts_sum"] / values["peftlab_batch_texts_count"]


def _values(metrics: str) -> Iterator[tuple[str, float]]:
    for line in metrics.splitlines():
        name, _, value = line.rpartition(" ")
        if name in {"peftlab_batch_texts_sum", "peftlab_batch_texts_count"}:
            yield name, float(value)


if __name__ == "__main__":
    sys.exit(main())
