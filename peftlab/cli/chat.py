"""``peftlab chat``: talk to a tuned model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.options import Device, Offline, ThreadCount
from peftlab.cli.verbs import verb
from peftlab.core.reporter import tell
from peftlab.core.seed import LARGEST_SEED

HELP = """\
/reset                  forget what was said
/adapter NAME | none    answer with a run (its folder, or `tuned` for the first one), or with the base alone
/help                   this
/quit                   leave (also Ctrl-D)"""


@verb()
def chat(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 256,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0: always take the most likely token. Higher: more varied answers.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed, for temperatures above 0.")] = 0,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
) -> None:
    """Talk to a tuned model in the terminal. Type /help there."""
    try:
        chosen = start_computing(device, threads, tell)
        _talk(run, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, offline=offline, device=chosen)
    except KeyboardInterrupt:
        print("", file=sys.stderr)


def _talk(run: Path, **settings: Any) -> None:
    from peftlab.core.errors import UserError
    from peftlab.inference.chat import ChatSession

    session = ChatSession(run, report=tell, **settings)
    print(f"{session.description} Type /help for what can be done.", file=sys.stderr)
    for line in _lines():
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            break
        if word == "/help":
            print(HELP, file=sys.stderr)
        elif word == "/reset":
            session.reset()
            print("Forgotten.", file=sys.stderr)
        elif word == "/adapter":
            try:
                print(session.choose(rest.strip()), file=sys.stderr)
            except UserError as error:  # a slip of the hand ends no conversation
                print(f"Error: {error}", file=sys.stderr)
        elif word.startswith("/"):
            print(f"Error: unknown command {word}\n{HELP}", file=sys.stderr)
        else:
            session.answer(line, lambda text: print(text, end="", flush=True))
            print(flush=True)


def _lines() -> Iterator[str]:
    """What is typed, line by line; a prompt is shown on a terminal only. Blank lines are passed over."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
