"""Tasks of a newcomer: whether the docs' search finds the page that answers, among the first three.

    python .ci/newcomers.py SITE

Ranks as the site's search does: lunr, with titles far above texts (mkdocs-material), each section of a
page on its own, and the best of them stands for the page.
"""

from __future__ import annotations

import json
import sys
from html import unescape
from pathlib import Path
from re import sub

from lunr import lunr
from lunr.exceptions import QueryParseError

FIRST = 3
TITLE_BOOST = 1000
TASKS = {
    "Tune my own CSV": (["tune my csv", "train classifier from csv"], ["tutorials/tune_my_csv", "starting"]),
    "Find out why a model is bad": (["why is my model bad", "wrong predictions"], ["audit", "tutorials/tune_my_csv"]),
    "Get a model into a service": (["serve a model", "deploy", "rest api"], ["tutorials/ship_it", "shipping"]),
    "Compare two methods": (["compare two methods", "which method is best"], ["tutorials/compare_methods", "methods"]),
    "Use 4 bits": (["4 bits", "quantization", "qlora"], ["tutorials/small_card", "tutorials/one_card", "memory"]),
    "Resume an interrupted run": (["resume interrupted run", "crash"], ["tutorials/tune_my_csv", "runs"]),
    "Tune a 7B model on one card": (["7b", "one card"], ["tutorials/one_card"]),
    "Memory runs out": (["out of memory", "cuda out of memory"], ["tutorials/small_card", "memory"]),
    "Choose which texts to label": (
        ["which texts to label", "active learning"],
        ["few_labels", "tutorials/few_labels"],
    ),
    "Train on two GPUs": (["several gpus", "multi gpu", "ddp"], ["tutorials/several_gpus", "several_gpus"]),
    "Use it from a notebook": (["notebook", "jupyter"], ["interoperability", "python"]),
    "Watch a run in a browser": (["watch runs browser", "dashboard"], ["board"]),
    "Add a method": (["add a method", "plugin"], ["tutorials/add_a_method", "extending"]),
}
"""What a newcomer may type, in more than one way, and the pages that answer."""


def main() -> int:
    """Print where each task's page stands; 1 where one is not found."""
    site = Path(sys.argv[1])
    documents = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    for document in documents:
        document["text"] = unescape(sub(r"<[^>]+>", " ", document["text"]))
        document["title"] = unescape(sub(r"<[^>]+>", " ", document["title"]))
    index = lunr("location", [{"field_name": "title", "boost": TITLE_BOOST}, "text"], documents)
    missed = 0
    for task, (searches, wanted) in TASKS.items():
        for words in searches:
            pages = pages_for(index, words)[:FIRST]
            is_found = any(page in wanted for page in pages)
            missed += not is_found
            print(f"{'ok  ' if is_found else 'MISS'} {task}: `{words}` -> {', '.join(pages)}")
    return 1 if missed else 0


def pages_for(index: object, words: str) -> list[str]:
    """The pages for a search, best first."""
    try:
        found = index.search(words)  # type: ignore[attr-defined]
    except QueryParseError:
        return []
    return list(dict.fromkeys(each["ref"].partition("#")[0].removesuffix(".html") for each in found))


if __name__ == "__main__":
    raise SystemExit(main())
