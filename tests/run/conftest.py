"""What tests of stopped runs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peftlab.run import stages


@pytest.fixture
def stop_second_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Called, it interrupts the second run that begins from then on; it returns the list of the names of all that begin."""

    def begin() -> list[str]:
        real, calls = stages._run_stages, list[str]()

        def stop_once(run: Any) -> None:
            calls.append(run.folder.path.name)
            if len(calls) == 2:
                raise KeyboardInterrupt
            real(run)

        monkeypatch.setattr(stages, "_run_stages", stop_once)
        return calls

    return begin
