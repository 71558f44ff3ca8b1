"""``peftlab select``: which texts to label next."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Encoding, Force, Format, Json, Offline, Read, Run, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.amounts import plural
from peftlab.core.seed import LARGEST_SEED

if TYPE_CHECKING:
    from peftlab.data.data_config import DataConfig
    from peftlab.recipe.schema import Recipe
    from peftlab.selection.select import Selection


@verb()
def select(
    run: Run,
    pool: Annotated[Path, typer.Option(metavar="FILE", help="A table of texts without labels.")],
    count: Annotated[int, typer.Option(min=1, help="How many rows to choose.")],
    strategy: Annotated[str, typer.Option(metavar="NAME", help="How to choose: a name of `peftlab ls strategies`.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the strategy. May be repeated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file for the rows: .csv, .jsonl or .parquet.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="For the strategies that draw.")] = 0,
    force: Force = False,
    file_format: Format = None,
    encoding: Encoding = "utf-8",
    read: Read = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Choose the texts of a pool that should be given labels next."""
    with reporting() as reporter:
        from peftlab.artifact.saved_export import inputs_of_saved
        from peftlab.inference.files import reading_config, refuse_unread
        from peftlab.inference.outputs import check_output, write_answers
        from peftlab.selection.select import build_strategy, select_rows

        chosen = build_strategy(strategy, settings or [])
        if output is not None:
            check_output(output, inputs=[pool, *inputs_of_saved(run)], force=force)

        def reading(recipe: Recipe) -> DataConfig:
            config = reading_config(recipe, file_format, encoding, read or [])
            refuse_unread([pool], config, file_format, read or [], has_numbers=False)
            return config

        found = select_rows(
            run,
            pool,
            chosen,
            count,
            reading=reading,
            seed=seed,
            offline=offline,
            device=start_computing(device, threads, reporter.say),
            reporter=reporter,
        )
        if output is not None:
            write_answers(output, found.rows)
    _print(found, output, as_json=as_json)


def _print(found: Selection, output: Path | None, *, as_json: bool) -> None:
    if as_json:
        shown = dataclasses.asdict(found)
        if output is not None:
            shown |= {"rows": len(found.rows), "output": str(output)}
        print_result(json.dumps(shown, ensure_ascii=False))
    elif output is not None:
        print(f"{plural(len(found.rows), 'row')} of {found.pool}: {output}")
    else:
        for row in found.rows:
            texts = [str(value) for key, value in row.items() if not key.startswith("select_") and value is not None]
            print(" ".join("\t".join([row["select_reason"], *texts]).splitlines()))
