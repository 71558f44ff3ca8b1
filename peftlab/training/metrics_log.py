"""``metrics.jsonl``: one JSON object per line, for each logged step and each evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peftlab.core.files import write_text


class MetricsLog:
    """Appends lines; a run that is taken up again drops the lines behind its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, values: dict[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def keep_up_to(self, step: int) -> None:
        """Drop the lines of later steps, and a line that was cut short."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except ValueError:
                break  # the process was killed while it wrote this line
        write_text(self.path, "".join(kept))
