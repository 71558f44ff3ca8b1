"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as training.epochs=3. May be repeated."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Use no network: only what is on disk or in the cache.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on standard output.")]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="Format of the input: csv, tsv, jsonl, parquet, …"),
]
Read = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        metavar="KEY=VALUE",
        help="How to read the input, by a key of a recipe's data section: delimiter, quoting, escape, header, "
        "column_names, decimal, sheet. May be repeated.",
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", help="The device: auto (CUDA if there is one), cpu, cuda or cuda:N."),
]
ThreadCount = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1024,
        help="Number of threads. Default: one for each free core.",
        show_default=False,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        metavar="N",
        min=1,
        max=4096,
        help="Number of processes on this machine, each with a card of its own or a part of the cores.",
        show_default=False,
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run or export.", show_default=False)]
Host = Annotated[str, typer.Option(help="Address to listen on. Any address but loopback needs PEFTLAB_TOKEN.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on. 0: any free port.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")]
Encoding = Annotated[str, typer.Option(help="Character encoding of a text file.")]
