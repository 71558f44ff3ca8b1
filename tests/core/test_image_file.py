"""Images of tables: what tells one from another."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.core.image_file import ImageFile
from peftlab.core.splits import Split
from peftlab.tasks.images.pixels import contents_of


def test_a_file_is_read_once_to_be_told_from_others_and_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).write_bytes(content)
    images = [ImageFile.at(name, tmp_path) for name in "abc"] + [ImageFile.of(b"two")]
    split, read = Split("train", range(4), {"image": images}), list[Path]()
    plain = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or plain(self))
    first, second, third, given = contents_of(split, "image")
    assert (first, second) == (third, given)
    assert first != second
    assert contents_of(split, "image") == [first, second, third, given]
    assert len(read) == 3
    assert {type(name) for name in (first, second, third, given)} == {str}
    assert all(image.content is None for image in images[:3])
