"""Start the board."""

from __future__ import annotations

from pathlib import Path

import uvicorn

from peftlab.board.app import build_board
from peftlab.core.address import bind, check_address, is_loopback, url_of
from peftlab.core.reporter import Reporter


def show_board(root: Path, *, address: str, port: int, token: str | None, reporter: Reporter) -> None:
    """Answer until SIGINT or SIGTERM.

    Args:
        root: The folder whose runs are shown.
        address: To bind to.
        port: To bind to; 0: one that is free.
        token: That visitors bring; needed where the address is not the loopback's.
        reporter: Is told where the board answers.

    Raises:
        UserError: There is no such folder, the port is in use, or the address is open to others without a token.
    """
    check_address(address, token)
    app = build_board(root, token=token, only_loopback=is_loopback(address))
    bound = bind(address, port)
    try:
        reporter.say(f"the board is at {url_of(address, bound)} (Ctrl-C ends it)")
        # Pages that follow a run keep their connection open: nobody waits for them at the end.
        settings = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(settings).run(sockets=[bound])
    finally:
        bound.close()
