"""Start the board, or the page for labelling."""

from __future__ import annotations

import secrets
from pathlib import Path

from peftlab.board.app import build_board
from peftlab.board.jobs import Jobs
from peftlab.board.label_app import build_label_app
from peftlab.board.label_table import LabelTable
from peftlab.board.trial import Trial
from peftlab.core.address import answer, bind, check_address, is_loopback, url_of
from peftlab.core.reporter import Reporter

GRACE_SECONDS = 1
"""Pages that follow a run keep their connection open: nobody waits for them at the end."""


def show_board(
    root: Path,
    *,
    address: str,
    port: int,
    token: str | None,
    reporter: Reporter,
    device: str = "auto",
    threads: int | None = None,
    offline: bool = False,
) -> None:
    """Answer until SIGINT or SIGTERM. Runs that were started from it go on.

    Args:
        root: The folder whose runs are shown.
        address: To bind to.
        port: To bind to; 0: one that is free.
        token: That visitors bring; needed where the address is not the loopback's. None: one is made, for acting alone.
        reporter: Is told where the board answers.
        device: For the runs that are started, and for asking: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Of each of them; None: as many as are free.
        offline: Allow them no network.

    Raises:
        UserError: There is no such folder, the port is in use, or the address is open to others without a token.
    """
    check_address(address, token)
    made = secrets.token_urlsafe(16)
    options = ["--device", device, *(["--offline"] if offline else [])]
    options += ["--threads", str(threads)] if threads is not None else []
    app = build_board(
        root,
        token=token or made,
        token_to_look=token is not None,
        only_loopback=is_loopback(address),
        jobs=Jobs(root.resolve(), options),
        trial=Trial(device, threads, offline=offline),
    )
    bound = bind(address, port)
    try:
        reporter.say(f"the board is at {url_of(address, bound)} (Ctrl-C ends it; runs that it has started go on)")
        if token is None:
            reporter.say(f"to start, stop and try runs: {url_of(address, bound)}/?token={made}")
        answer(app, bound, grace_seconds=GRACE_SECONDS)
    finally:
        bound.close()


def show_labelling(table: LabelTable, *, address: str, port: int, token: str | None, reporter: Reporter) -> None:
    """Show the page for labelling until SIGINT or SIGTERM.

    Args:
        table: The rows.
        address: To bind to.
        port: To bind to; 0: one that is free.
        token: That visitors bring; needed where the address is not the loopback's. None: one is made.
        reporter: Is told where the page is.

    Raises:
        UserError: The port is in use, or the address is open to others without a token.
    """
    check_address(address, token)
    made = token or secrets.token_urlsafe(16)
    app = build_label_app(table, token=made, only_loopback=is_loopback(address))
    bound = bind(address, port)
    try:
        place = f"{url_of(address, bound)}/" + ("" if token else f"?token={made}")
        reporter.say(f"{len(table) - table.done} of {len(table)} rows have no label yet: {place} (Ctrl-C ends it)")
        answer(app, bound, grace_seconds=GRACE_SECONDS)
    finally:
        bound.close()
