"""``peftlab board``: a local page over runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb

PACKAGES = ("fastapi", "uvicorn")


@verb()
def board(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The folder that the runs are in.", show_default=True)
    ] = Path("runs"),
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any address but loopback needs PEFTLAB_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on. 0: any free port.")] = 8080,
) -> None:
    """Show the runs below a folder in a browser: those that go on, those that are done, and comparisons of them."""
    from peftlab.core.errors import UserError

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"the board needs {', '.join(missing)}", hint="pip install 'peftlab[serve]'")
    from peftlab.board.server import show_board
    from peftlab.core.address import given_token

    with reporting() as reporter:
        show_board(folder, address=host, port=port, token=given_token(), reporter=reporter)
