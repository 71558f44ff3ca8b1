"""``peftlab serve``: runs and exports over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.options import Device, Host, Offline, Port, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.installed import check_installed

PACKAGES = ("fastapi", "fastapi_offline", "uvicorn", "prometheus_client")


@verb()
def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN…", help="Folders of runs or exports. NAME=FOLDER gives one a name.", show_default=False
        ),
    ],
    host: Host = "127.0.0.1",
    port: Port = 8000,
    adapters_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Clients may add adapters from this folder. Default: the folders of the given runs."
        ),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Most texts in a batch.")] = 32,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, help="Milliseconds that a text waits for others to join its batch.")
    ] = 4.0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Batches computed at once, each on its share of the cores.",
            show_default="one per core, at most 4; 1 on a GPU",
        ),
    ] = None,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Most texts that may wait. Further ones are refused with 429.")
    ] = 512,
    timeout: Annotated[float, typer.Option(min=0.1, help="Most seconds for a request.")] = 30.0,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
) -> None:
    """Serve predictions over HTTP. The variable PEFTLAB_TOKEN sets a bearer token."""
    check_installed(PACKAGES, "serving needs", extra="serve")
    with reporting() as reporter:
        folders = _named(runs)
        import torch

        from peftlab.core.address import given_token
        from peftlab.serving.server import serve as serve_runs
        from peftlab.serving.serving_config import (
            CPU_PADDING,
            GPU_PADDING,
            MOST_WORKERS,
            Batching,
            Limits,
            ServingConfig,
        )

        chosen = start_computing(device, threads, reporter.say)
        on_gpu = chosen.type == "cuda"
        allowed = adapters_from or [folder.parent for folder in folders.values()]
        config = ServingConfig(
            limits=Limits(max_queue=max_queue, request_timeout_seconds=timeout),
            batching=Batching(
                max_batch=max_batch,
                max_wait_seconds=max_wait_ms / 1000,
                free_padding=GPU_PADDING if on_gpu else CPU_PADDING,
                workers=workers or (1 if on_gpu else min(MOST_WORKERS, torch.get_num_threads())),
            ),
            token=given_token(),
            adapter_folders=tuple(folder.resolve() for folder in allowed),
        )
        serve_runs(folders, config, address=host, port=port, offline=offline, reporter=reporter, device=chosen)


def _named(runs: list[str]) -> dict[str, Path]:
    """Folders by name: what stands before `=`, else the folder's own name, which may hold a `=` itself."""
    from peftlab.artifact.saved_folder import find_folder
    from peftlab.core.errors import UserError

    named: dict[str, Path] = {}
    for text in runs:
        name, equals, folder = (text, "", "") if Path(text).exists() else text.partition("=")
        path = find_folder(folder if equals else text)
        name = name if equals else path.resolve().name
        if not name:
            raise UserError("the name before `=` is empty", where=text, hint="Write NAME=FOLDER, or the folder alone.")
        if name in named:
            raise UserError(f"two runs are called `{name}`", where=text, hint="Name them: NAME=FOLDER.")
        named[name] = path
    return named
