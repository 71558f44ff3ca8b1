"""Images as people have them: in folders, files and bytes; and those that cannot be used."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import peftlab
from peftlab.cli.app import app
from peftlab.core.config import Document
from peftlab.core.errors import DataError, UnsupportedError, UserError
from peftlab.core.image_file import ImageFile, image_of
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import Recipe
from peftlab.tasks.images import pixels

pytestmark = pytest.mark.slow


def recipe(model: Path, source: Any, **task: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "images",
            "model": {"path": str(model)},
            "task": {"type": "image_classification", **task},
            "data": {"source": source if isinstance(source, list) else str(source)},
            "method": {"type": "ia3"},
            "training": {"max_steps": 2, "batch_size": 4},
        }
    )


def png(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for at in range(20):
        path = tmp_path / "animals" / ("cat" if at % 2 else "dog") / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(at).save(path)
    return tmp_path / "animals"


def test_a_folder_of_images_a_class_is_trained_on_and_asked_in_every_way(
    tiny_vit: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "cat" / "copy.png").write_bytes((folder / "cat" / "1.png").read_bytes())
    result = peftlab.run_recipe(recipe(tiny_vit, folder), output_dir=tmp_path / "run")
    assert result.record.status == "success", result.record.error
    assert sum(result.record.data.rows.values()) == 20  # equal files are one image, whatever they are called
    loaded = peftlab.load(tmp_path / "run")
    file = folder / "cat" / "1.png"
    by_path, by_bytes, by_image = (
        loaded.predict([{"image": image}])[0] for image in (str(file), file.read_bytes(), Image.open(file))
    )
    assert by_path["image"] == str(file)
    assert by_bytes["image"].startswith("bytes:sha256=")
    assert by_path["scores"] == by_bytes["scores"] == by_image["scores"]
    assert loaded.evaluate(folder).examples == 21
    piped = ["predict", str(tmp_path / "run"), "--input", "-", "--format", "jsonl", "--json"]
    done = CliRunner().invoke(app, piped, input=json.dumps({"image": str(file)}))
    assert json.loads(done.stdout)["predictions"][0]["prediction"] == by_path["prediction"]
    table = tmp_path / "table.csv"
    names = [("cat" if at % 2 else "dog", at) for at in range(20)]
    table.write_text("image,label\n" + "".join(f"animals/{name}/{at}.png,{name}\n" for name, at in names))
    done = CliRunner().invoke(app, ["audit", str(tmp_path / "run"), "--data", str(table), "--parts", "data"])
    assert done.exit_code == 0, done.output


def spoilt(kind: str, folder: Path) -> str:
    """A file that is no image that can be used; gives its path as a table has it."""
    outside = folder.parent / "secret.png"
    picture(0).save(outside)
    content = {
        "text": b"not an image",
        "cut": png(picture(1).resize((64, 64)))[:200],
        "bomb": png(Image.new("1", (9000, 9000))),
        "huge": png(Image.new("1", (15000, 15000))),
    }
    if kind in content:
        (folder / "bad.png").write_bytes(content[kind])
    return {"outside": "../secret.png", "absolute": str(outside), "missing": "nowhere.png"}.get(kind, "bad.png")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("text", "no image of a known kind"),
        ("cut", "cannot be read"),
        ("bomb", "9000 × 9000 pixels"),
        ("huge", "pixels"),
        ("outside", "outside of the table's folder"),
        ("absolute", "outside of the table's folder"),
        ("missing", "No such file"),
    ],
)
def test_an_image_that_cannot_be_used_is_named_with_its_row(
    tiny_vit: Path, folder: Path, tmp_path: Path, kind: str, says: str
) -> None:
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.glob("*/*.png"))]
    rows[6] = f"{spoilt(kind, folder)},cat"
    (folder / "rows.csv").write_text("image,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=says) as found:
        peftlab.run_recipe(recipe(tiny_vit, folder / "rows.csv"), output_dir=tmp_path / "run")
    assert "row 7" in str(found.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(Image.new("L", (2, 2), 200)), (200, 200, 200)),
        (png(Image.new("CMYK", (2, 2)), "JPEG"), (255, 255, 255)),
        (png(Image.new("RGBA", (2, 2), (0, 0, 0, 0))), (255, 255, 255)),
        (png(Image.fromarray(np.full((2, 2), 51400, dtype=np.uint16))), (200, 200, 200)),
        (png(Image.new("RGB", (2, 2), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (2, 2))]), (254,)),
    ],
    ids=["grey", "cmyk", "transparent", "16 bits", "animated"],
)
def test_every_kind_of_picture_is_seen_as_people_see_it(content: bytes, expected: tuple[int, ...]) -> None:
    shown = pixels.decode(content, "it", where="here").convert("RGB").getpixel((0, 0))
    assert all(abs(own - wanted) <= 1 for own, wanted in zip(shown, expected, strict=False))


def test_images_are_decoded_anew_where_they_do_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    image = ImageFile.of(png(picture(0)))

    class Reader:
        def pixels(self, image: Image.Image) -> Any:
            return np.asarray(image, dtype=np.float32).transpose(2, 0, 1)

    found = pixels.Pixels(image, Reader(), "here")
    assert found.read(keep=False) is not found.read(keep=True)
    assert found.read(keep=False) is found.read(keep=False)


def test_what_is_no_image_stays_as_it_is() -> None:
    assert image_of({"bytes": None, "path": "a.png"}, None) == "a.png"
    assert not isinstance(image_of("a.png", None), ImageFile)  # of a request: a path would be the server's own
    assert image_of({"bytes": b"x", "path": "/etc/passwd"}, None).content == b"x"


def test_tasks_and_models_that_do_not_go_together_are_refused(tiny_vit: Path, tiny_bert: Path, folder: Path) -> None:
    document = Document(source="images", values={})
    with pytest.raises(UnsupportedError, match=r"is a task of images, and .* reads texts"):
        check_recipe(recipe(tiny_bert, folder), document, offline=True)
    of_texts = recipe(tiny_vit, folder).model_copy(update={"task": peftlab.TASKS["text_classification"]()})
    with pytest.raises(UserError, match=r"is a task of texts, and .* reads images"):
        check_recipe(of_texts, document, offline=True)
    chat = folder.parent / "chat"
    chat.mkdir()
    (chat / "config.json").write_text('{"model_type": "llava", "vision_config": {}, "text_config": {}}')
    (chat / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(UnsupportedError, match="supports no vision-language models"):
        check_recipe(recipe(chat, folder), document, offline=True)
