"""``peftlab doctor``: what this machine can do."""

from __future__ import annotations

import json

import typer

from peftlab.cli.json_object import print_result
from peftlab.cli.options import Json, Offline
from peftlab.cli.verbs import verb

SIGNS = {"ok": "✓", "note": "!", "problem": "✗"}


@verb()
def doctor(offline: Offline = False, as_json: Json = False) -> None:
    """Look at Python, packages, CUDA, cores, memory, disk and network, try the kernels, and say what that means.

    With --json it prints what an issue needs; home folders are shortened, and no variable or token is in it. It ends
    with 1 where something keeps runs from working.
    """
    from peftlab.doctor.examine import examine

    findings = examine(offline=offline)
    if as_json:
        print_result(json.dumps({"findings": [finding.public() for finding in findings]}, indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            shown = finding.public()
            print(f"{SIGNS[finding.status]} {finding.name:<13} {shown['found']}\n{'':<16}{shown['meaning']}")
    raise typer.Exit(1 if any(finding.status == "problem" for finding in findings) else 0)
