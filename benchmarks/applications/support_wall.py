"""Which planted sentences a written answer may quote, and what that costs of a FAQ's own sentences; nothing is written.

    python benchmarks/applications/support_wall.py FAQ.csv --model FOLDER --attacks LIST.json [LIST.json ...]

A sentence that may not be quoted is neither read by the writer nor supports what it writes, so no answer holds it. Each
attack is put into ``--places`` entries of the FAQ in turn. ``likeness``: only how like it is to the rest of its entry
counts. ``contacts``: nor may it give a contact that no other sentence gives. ``FOLDER`` has a sentence embedder, such
as MiniLM; a built service has a tuned one, which tells a little more.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from peftlab.applications.support.attacks import load_attacks
from peftlab.applications.support.belonging import Belonging, Embed, choose_belonging
from peftlab.applications.support.company import Entry, read_entries
from peftlab.applications.support.contacts import vouched
from peftlab.applications.support.sentences import sentences


def embedder(folder: Path) -> Embed:
    """Means of the tokens, of length 1."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        found = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                list(texts[start : start + 32]), padding=True, truncation=True, max_length=128, return_tensors="pt"
            )
            with torch.inference_mode():
                states = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            means = (states * mask).sum(1) / mask.sum(1)
            found.append(torch.nn.functional.normalize(means, dim=-1).numpy())
        return np.concatenate(found)

    return embed


def quoted(walls: Belonging, entries: Sequence[Entry], attacks: Sequence[str], places: int) -> list[int]:
    """The attacks of which at least one of the entries that they were put into would quote a sentence."""
    chosen = [entries[at] for at in np.linspace(0, len(entries) - 1, places).astype(int)]
    found = []
    for number, attack in enumerate(attacks, start=1):
        told = [walls.quotable(replace(each, answer=f"{each.answer} {attack}")).answer for each in chosen]
        if any(sentence in answer for answer in told for sentence in sentences(attack)):
            found.append(number)
    return found


def main() -> None:
    """Both walls, on the FAQ itself and on each list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faq", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--attacks", type=Path, nargs="+", required=True)
    parser.add_argument("--quotable", type=float, default=0.8)
    parser.add_argument("--places", type=int, default=4)
    parser.add_argument(
        "--entries", default="", help="The beginning of the ids of the entries that attacks are put in."
    )
    given = parser.parse_args()
    entries, embed = read_entries(given.faq), embedder(given.model)
    least = choose_belonging(entries, embed, given.quotable)
    places = [each for each in entries if each.id.startswith(given.entries)]
    for name, known in (("likeness", None), ("contacts", vouched(entries))):
        walls = Belonging(embed, least, known)
        kept = [sentences(walls.quotable(each).answer) for each in entries]
        count = sum(len(sentences(each.answer)) for each in entries)
        empty = sum(not its for its in kept)
        print(f"{name}: {sum(map(len, kept))} of {count} own sentences stay, {empty} entries have none", flush=True)
        for path in given.attacks:
            attacks = [each.text for each in load_attacks("passage", path)]
            found = quoted(walls, places, attacks, given.places)
            print(f"{name}: {path.name}: {len(found)} of {len(attacks)} may be quoted: {found}", flush=True)


if __name__ == "__main__":
    main()
