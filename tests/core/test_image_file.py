"""Images of tables: what tells one from another."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.core.errors import DataError
from peftlab.core.image_file import ImageFile, contents_of
from peftlab.core.splits import Split
from peftlab.data.splits import fingerprint


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


def test_the_fingerprint_of_data_goes_by_what_images_show(tmp_path: Path) -> None:
    """A run goes on over the same data alone; a picture that was changed in its place is other data."""
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").write_bytes(b"two")

    def of(*names: str) -> str:
        images = [ImageFile.at(name, tmp_path) for name in names]
        return fingerprint({"train": Split("train", range(len(names)), {"image": images}, "table.csv")})

    before = of("a.png", "b.png")
    assert before != of("b.png", "a.png")
    (tmp_path / "c.png").write_bytes(b"two")
    assert before == of("a.png", "c.png")  # another name for the same bytes
    assert before == fingerprint(
        {"train": Split("train", range(2), {"image": [ImageFile.of(b"one"), ImageFile.of(b"two")]}, "table.csv")}
    )
    (tmp_path / "b.png").write_bytes(b"three")
    assert before != of("a.png", "b.png")
    with pytest.raises(DataError, match="cannot be read"):
        of("gone.png")
