"""Going on from a checkpoint: that it is of this very run, and on as many threads."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import torch

from peftlab.core.errors import UserError
from peftlab.core.model_facts import TokenizerFacts
from peftlab.core.threads import keep_threads
from peftlab.run.run_context import RunContext
from peftlab.run.teachers import NOTE as TEACHERS_NOTE
from peftlab.training.checkpoints import Checkpoint


def read_checkpoint(run: RunContext) -> Checkpoint | None:
    """The latest checkpoint, if there is one.

    Raises:
        UserError: It is of another data set, base model or library.
    """
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        return None
    run.findings.resumed = checkpoint.state["resumed"] + 1
    run.findings.earlier_seconds = checkpoint.state["seconds"]
    run.findings.clock.restore(checkpoint.state["phases"])
    if run.device.type == "cuda" and not run.recipe.training.deterministic:
        run.reporter.say(
            "training.deterministic is false: the scores may differ in their last digits from those without a stop"
        )
    run.reporter.say(f"resuming after step {checkpoint.state['progress']['step']}")
    return checkpoint


def latest_checkpoint(run: RunContext) -> Checkpoint | None:
    """The latest checkpoint, before the run goes on: nothing is told or counted, and only what is known compared.

    Raises:
        UserError: What the run began with has changed.
    """
    checkpoint = run.world.first(run.folder.checkpoints.read_latest)
    if checkpoint is None:
        return None
    for key, now in _identity(run).items():
        if now is not None and checkpoint.state.get(key, now) != now:  # a base on another device has another key
            raise UserError(
                f"the run cannot be resumed here: `{key}` has changed",
                where=str(run.folder.path),
                hint="The data, the base model, its tokenizer, a teacher or a library has changed. "
                "Start the run in a new folder.",
            )
    return checkpoint


def state_of(run: RunContext) -> dict[str, Any]:
    """What a checkpoint holds beside the training's own state."""
    return {
        **_identity(run),
        "resumed": run.findings.resumed,
        "seconds": run.findings.earlier_seconds + time.monotonic() - run.started,
        "phases": run.findings.clock.state_dict(),
        "acceleration": dict(run.findings.acceleration),
        "threads": torch.get_num_threads(),
        "processes": run.world.size,
        "device": run.device.type,
    }


def acceleration_of(checkpoint: Checkpoint | None) -> dict[str, int | str]:
    """The parts of the model that computed faster before the stop; empty in a checkpoint that does not say it."""
    return {} if checkpoint is None else dict(checkpoint.state.get("acceleration", {}))


def keep_threads_of(run: RunContext) -> None:
    """Go on with as many threads as the run began with: another number gives other last bits."""
    begun = run.world.first(run.folder.checkpoints.latest_state)
    count, now = begun.get("threads"), torch.get_num_threads()
    processes = begun.get("processes", 1)
    if begun and processes != run.world.size:
        run.reporter.say(
            f"the run began in {processes} processes and goes on in {run.world.size}: last digits may differ"
        )
    elif isinstance(count, int) and count > 0 and count != now:
        run.reporter.say(f"computing with {count} threads as before, not with {now}, so that the scores stay the same")
        keep_threads(count, "as the run began")
    place = begun.get("device", run.device.type)
    if place != run.device.type:
        run.reporter.say(f"the run began on {place} and goes on on {run.device.type}: last digits may differ")


def _identity(run: RunContext) -> dict[str, Any]:
    # On another device the base may be of another type, or be quantised otherwise.
    base = f"base_weights ({str(run.dtype).removeprefix('torch.')}, {run.device.type})"
    teachers = run.findings.notes.get(TEACHERS_NOTE, ())
    return {
        "initial_adapter_sha256": run.findings.initial_adapter_sha256,
        base: run.findings.base_sha256,
        "teachers": [teacher["weights_sha256"] for teacher in teachers],
        "data_fingerprint": run.checked.data.summary.fingerprint,
        "added_rows_fingerprint": run.checked.data.summary.added_rows_fingerprint,
        "labels": list(run.checked.labels),
        "learned": dict(run.recipe.task.learned),
        "tokenizer": _sha256_of(run.checked.facts.tokenizer),
    }


def _sha256_of(tokenizer: TokenizerFacts | None) -> str | None:
    """Of a tokenizer's tokens and its chat template, which may be changed without the weights."""
    if tokenizer is None:
        return None
    content = json.dumps([sorted(tokenizer.tokens.items()), tokenizer.chat_template])
    return hashlib.sha256(content.encode()).hexdigest()
