"""Writes pictures of emoji with their names and keywords, as a table that ``image_text_embedding`` reads.

Two packages of npm are read as they are unpacked; nothing of them lies in this project::

    npm pack emoji-datasource-twitter@16.0.0 emojilib@4.0.3
    mkdir pictures words
    tar xzf emoji-datasource-twitter-16.0.0.tgz -C pictures --strip-components 1
    tar xzf emojilib-4.0.3.tgz -C words --strip-components 1
    python benchmarks/images/write_emoji.py pictures words emoji

The pictures are Twemoji (Twitter and other contributors, CC-BY 4.0: who shows them names them), 64 × 64 pixels; the
words are emojilib's (MIT). Flags are left out: no picture of a country's flag tells the country's name to a model that
has not seen that flag. ``emoji.jsonl`` has all, ``people.jsonl`` faces, people and symbols, ``things.jsonl`` the rest.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PICTURES = Path("img/twitter/64")
LEFT_OUT = {"Flags", "Component"}
OF_PEOPLE = {"Smileys & Emotion", "People & Body", "Symbols"}


def described(words: list[str]) -> str:
    """The name, then the keywords: ``grinning cat: animal, cats, happy``."""
    name, *keywords = (word.replace("_", " ") for word in words)
    return f"{name}: {', '.join(keywords)}" if keywords else name


def rows(pictures: Path, words: Path) -> Iterable[dict[str, Any]]:
    """Of each emoji the picture's file, its category and what is said of it."""
    said = json.loads((words / "dist" / "emoji-en-US.json").read_text(encoding="utf-8"))
    for emoji in json.loads((pictures / "emoji.json").read_text(encoding="utf-8")):
        if emoji["category"] in LEFT_OUT or not emoji["has_img_twitter"]:
            continue
        sign = "".join(chr(int(code, 16)) for code in emoji["unified"].split("-"))
        if sign in said:
            yield {"image": emoji["image"], "text": described(said[sign]), "category": emoji["category"]}


def write(path: Path, found: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")


def main(pictures: Path, words: Path, folder: Path) -> None:
    found = sorted(rows(pictures, words), key=lambda row: str(row["image"]))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row in found:
        shutil.copyfile(pictures / PICTURES / row["image"], folder / "images" / row["image"])
        row["image"] = f"images/{row['image']}"
    write(folder / "emoji.jsonl", found)
    write(folder / "people.jsonl", [row for row in found if row["category"] in OF_PEOPLE])
    write(folder / "things.jsonl", [row for row in found if row["category"] not in OF_PEOPLE])
    print(f"{len(found)} emoji: {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
