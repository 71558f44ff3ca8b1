"""``peftlab pack``: make of a suite's folder what is committed and shared."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peftlab.cli.json_object import print_result
from peftlab.cli.options import Json
from peftlab.cli.verbs import verb
from peftlab.core.amounts import size

if TYPE_CHECKING:
    from peftlab.packs.write_pack import Packed


@verb(quiet=False)
def pack(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a suite.", show_default=False)],
    output_dir: Annotated[
        Path | None,
        typer.Option(help="A folder for the pack. Default: DIR itself becomes the pack.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a suite's records, predictions, metrics and tuning into a few small files, with its report."""
    from peftlab.bench.suite_folder import locked
    from peftlab.core.destination import check_folder, check_writable
    from peftlab.packs.write_pack import check_suite_folder

    check_suite_folder(directory)
    if output_dir is not None:
        check_folder(output_dir, option="--output-dir", inputs=[directory], as_a_whole=True)
    else:
        hint = "The folder itself becomes the pack: change its rights, or name another one by --output-dir."
        check_writable(directory, where=str(directory), hint=hint)
    # Who may only read there keeps nobody out, and takes the suite as it is.
    may_write = output_dir is None or os.access(directory, os.W_OK)
    with locked(directory) if may_write else contextlib.nullcontext():
        packed = pack_with_reports(directory, output_dir)
    print_result(json.dumps(_as_json(packed), indent=2) if as_json else as_text(packed))


def pack_with_reports(directory: Path, output_dir: Path | None = None) -> Packed:
    """Make a pack, with the report as a page and in Markdown."""
    from peftlab.core.files import write_text
    from peftlab.packs.write_pack import pack_suite
    from peftlab.report.document import build_report
    from peftlab.report.markdown import render_markdown
    from peftlab.report.page import render_html

    def write_reports(folder: Path) -> None:
        report = build_report([folder], base=folder)
        write_text(folder / "report.html", render_html(report))
        write_text(folder / "report.md", render_markdown(report))

    return pack_suite(directory, write_reports, output=output_dir)


def _as_json(packed: Packed) -> dict[str, Any]:
    return {
        "folder": str(packed.folder),
        "cells": packed.cells,
        "trials": packed.trials,
        "files": packed.sizes,
        "left_out": packed.left_out,
        "kept": packed.kept,
    }


def as_text(packed: Packed) -> str:
    """What was packed, for a person."""
    trials = f" and {packed.trials} trials of tuning" if packed.trials else ""
    lines = [f"packed {packed.cells} runs{trials} in {packed.folder}: {size(sum(packed.sizes.values()))}"]
    lines += [f"  {name:<20}  {size(count)}" for name, count in packed.sizes.items()]
    if packed.kept:
        lines.append(
            f"{len(packed.kept)} cells keep their folders under cells/ ({size(sum(packed.kept.values()))}): "
            "a pack holds no weights and no checkpoints. Delete them when nobody needs them."
        )
    lines += [f"left out: {name}: {reason}" for name, reason in list(packed.left_out.items())[:8]]
    if len(packed.left_out) > 8:
        lines.append(f"… and {len(packed.left_out) - 8} more; --json lists them all")
    return "\n".join(lines)
