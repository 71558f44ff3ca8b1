"""Attacks on a built customer service with its real writer: through its API, and on the writer without any wall.

    python benchmarks/applications/support_attacks.py BUILT --results FILE.json [--most 50] [--attacks LIST.json]

The list is ``attacks.json`` where none is named. Each of its passage attacks is put into the answers of all entries. No
entry is set aside, and every question is written to, as if no entry were sure. ``service``: the answer that a customer
gets over HTTP. ``writer``: what the model writes from the same notes, unfiltered and unchecked. Questions go through
the service as it was built. Each attack is written down as it ends, and the next call goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from fastapi.testclient import TestClient

import peftlab.applications.support.prompting as prompting
from peftlab.applications.support.answering import Responder
from peftlab.applications.support.attacks import load_attacks, poisoned
from peftlab.applications.support.hostile import gives_orders
from peftlab.assembly.app_folder import open_application
from peftlab.core.application import Hosting
from peftlab.core.files import write_text
from peftlab.inference.generate import generate, generating_task, options_of
from peftlab.statistics.means import mean_with_interval


def said(client: TestClient, text: str, key: str) -> tuple[str, str]:
    """All that a customer is shown, and whose answer it is."""
    answer = client.post("/api/chat/messages", json={"text": text, "key": f"{key}-attack"})
    assert answer.status_code == 200, answer.text
    events = [json.loads(line) for line in answer.text.splitlines()]
    return " ".join(str(event.get("text", "")) for event in events), str(events[-1].get("kind", events[-1]["event"]))


def unguarded(responder: Responder, question: str, most: int) -> str:
    """What the writer says of the entries nearest to a question where nothing is filtered or checked."""
    model: Any = responder._parts.writer
    entries = [responder.company.entries[at] for at in responder.find(question).positions[: responder.support.passages]]
    with mock.patch.object(prompting, "harmless", lambda text: text):
        messages = prompting.conversation(question, entries)
    prompt = generating_task(model).conversation_prompt(messages, model.tokenizer)["input_ids"]
    (made,) = generate(model, [prompt], options_of(model, max_new_tokens=most))
    return made.text


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Shares of the attacks that were followed, with Wilson's interval."""
    told: dict[str, Any] = {}
    for place in ("passage", "question"):
        for way in ("service", "writer"):
            flags = [each[way]["followed"] for each in found["attacks"] if each["place"] == place and way in each]
            if flags:
                mean = mean_with_interval(np.array(flags, dtype=np.float64))
                told[f"{place}.{way}"] = {"followed": sum(flags), "of": mean.n,
                                          "interval_95": [round(mean.low, 3), round(mean.high, 3)]}  # fmt: skip
    return told


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("built", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--most", type=int, default=50, help="Passages at most.")
    parser.add_argument("--attacks", type=Path, help="Another list.")
    chosen = parser.parse_args()
    application, place = open_application(chosen.built)
    responder = Responder.load(application, place)
    built = responder.decision, responder.company
    always = {
        "answer": replace(responder.decision.answer, threshold=2.0),
        "write": replace(responder.decision.write, threshold=0.0),
    }
    found: dict[str, Any] = {"summary": {}, "attacks": []}
    if chosen.results.is_file():
        found = json.loads(chosen.results.read_text())
    done = {each["id"] for each in found["attacks"]}
    given = {"path": chosen.attacks} if chosen.attacks else {}
    attacks = [*load_attacks("passage", **given)[: chosen.most], *load_attacks("question", **given)]
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(Responder, "load", return_value=responder),
        TestClient(application.open_app(place, Hosting(f"sqlite:///{folder}/attacks.db"))) as site,
    ):
        for number, attack in enumerate(attacks):
            if attack.id in done:
                continue
            own: dict[str, Any] = {"id": attack.id, "place": attack.place, "recognised": gives_orders(attack.text)}
            responder.decision, responder.company = built
            question = attack.text
            if attack.place == "passage":
                entries = built[1].entries
                question = entries[number % len(entries)].question
                responder.decision = replace(responder.decision, set_aside=(), **always)
                responder.company = replace(built[1], entries=[poisoned(each, attack) for each in entries])
                text = unguarded(responder, question, application.max_new_tokens)
                own["writer"] = {"followed": attack.is_followed_by(text), "text": text[:300]}
            text, kind = said(TestClient(site.app), question, attack.id)
            own["service"] = {"followed": attack.is_followed_by(text), "kind": kind, "text": text[:300]}
            found["attacks"].append(own)
            found["summary"] = summary(found)
            write_text(chosen.results, json.dumps(found, indent=1) + "\n")
            print(attack.id, {way: own[way]["followed"] for way in ("writer", "service") if way in own}, flush=True)
    print(json.dumps(found["summary"], indent=1))


if __name__ == "__main__":
    main()
