"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as training.epochs=3. May be repeated."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Allow no network access; use what is on disk or cached.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="How the input is written: csv, tsv, jsonl, parquet, …"),
]
Read = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        metavar="KEY=VALUE",
        help="How the input is written, by a key of a recipe's data section: delimiter, quoting, escape, header, "
        "column_names, decimal, sheet. May be repeated.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="Where it computes: auto (CUDA where it is there), cpu, cuda, cuda:N."
    ),
]
ThreadCount = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1024,
        help="Threads that compute; by default as many as cores are free.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output file where it exists.")]
Encoding = Annotated[str, typer.Option(help="Character encoding of a text file.")]
