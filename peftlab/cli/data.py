"""``peftlab data``: the public data sets that recipes are written for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from peftlab.cli.json_object import print_result
from peftlab.cli.options import Json, Offline
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb


@verb()
def data(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]…", help="What to fetch. Without one: list all.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to. Default: $PEFTLAB_DATA, else data/ here.", show_default=False),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """List the public data sets that recipes are written for, or fetch some: where each is had, and its licence."""
    from peftlab.data.data_folders import data_folders
    from peftlab.data.public_data import PUBLIC_DATA, fetch_public_data, find_public_data

    if not names:
        sets = [_described(each) for each in PUBLIC_DATA.values()]
        folder = output or data_folders()[0]
        print_result(json.dumps({"data": sets}, indent=2, ensure_ascii=False) if as_json else _as_lines(sets, folder))
        return
    wanted = [find_public_data(name) for name in names]
    folder = output or data_folders()[0]
    files: dict[str, list[str]] = {}
    with reporting() as reporter:
        for each in wanted:
            here = each.folder if output is None else None  # recipes find it there; no second copy is needed
            written = [] if here else fetch_public_data(each, folder, offline=offline, report=reporter.say)
            files[each.name] = [str(path) for path in written]
            what = ", ".join(files[each.name]) or f"all files are in {here or folder / each.name} already"
            reporter.say(f"{each.name}: {what} (licence: {each.licence}; {each.home})")
    if as_json:
        print_result(json.dumps({"files": files}, indent=2))


def _described(each: Any) -> dict[str, Any]:
    return {
        "name": each.name,
        "about": each.about,
        "licence": each.licence,
        "home": each.home,
        "files": list(each.files),
        "folder": None if each.folder is None else str(each.folder),
        "hub_id": None if each.copy is None else each.copy.hub_id,
        "by_hand": each.by_hand,
    }


def _as_lines(sets: list[dict[str, Any]], folder: Path) -> str:
    lines = []
    for each in sets:
        here = f"here: {each['folder']}" if each["folder"] else f"not here: peftlab data {each['name']}"
        if not each["folder"] and not each["hub_id"]:
            here = f"not here; by hand: {', '.join(each['files'])} in {folder / each['name']}. {each['by_hand']}"
        lines.append(f"{each['name']}: {each['about']}. Licence: {each['licence']}.\n  {each['home']}\n  {here}")
    return "\n".join(lines)
