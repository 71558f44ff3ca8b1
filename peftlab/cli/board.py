"""``peftlab board``: a local page over runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peftlab.cli.options import Device, Host, Offline, Port, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.installed import PAGES, check_installed


@verb()
def board(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder that the runs are in.", show_default=True)
    ] = Path("runs"),
    host: Host = "127.0.0.1",
    port: Port = 8080,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
) -> None:
    """Show the runs below a folder in a browser, and start, stop, resume, compare and try them there."""
    check_installed(PAGES, "the board needs", extra="serve")
    from peftlab.board.server import show_board
    from peftlab.core.address import given_token
    from peftlab.core.devices import check_device_name

    check_device_name(device)
    with reporting() as reporter:
        show_board(
            folder,
            address=host,
            port=port,
            token=given_token(),
            reporter=reporter,
            device=device,
            threads=threads,
            offline=offline,
        )
