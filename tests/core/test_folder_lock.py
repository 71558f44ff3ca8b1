"""A lock keeps others out, and never leads out of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.core.errors import UserError
from peftlab.core.folder_lock import alone_in


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="is a link"), alone_in(tmp_path / "run", ".lock", busy="busy"):
        raise AssertionError("it was entered")
    assert (tmp_path / "precious").read_text() == "kept"


def test_only_one_is_in_a_folder(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path, ".lock", busy="busy"),
        pytest.raises(UserError, match="busy"),
        alone_in(tmp_path, ".lock", busy="busy"),
    ):
        raise AssertionError("it was entered twice")
