"""Public data sets that shipped recipes are written for: where each is had, its licence, and how it gets here.

None comes along with peftlab. Where the Hub has a copy, it is written into the files that recipes name; the others are
put there by hand.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.core.errors import DataError, SourceError, UnsupportedError, UserError, did_you_mean
from peftlab.core.files import atomic_file
from peftlab.core.hub import why_not_reached
from peftlab.core.reporter import ProgressCallback
from peftlab.data.data_config import DataConfig
from peftlab.data.data_folders import data_folders
from peftlab.data.hub import load_hub_tables


@dataclass(frozen=True)
class HubCopy:
    """A copy on the Hugging Face Hub.

    Args:
        hub_id: Such as ``SetFit/sst2``; the ``datasets`` library also takes a folder's path here.
        columns: Of the files, and what the copy calls them.
        splits: Of each file, the copy's split and how many rows it is known to have.
        revision: Of the Hub's own conversion, where the data set is a script there.
    """

    hub_id: str
    columns: Mapping[str, str]
    splits: Mapping[str, tuple[str, int]]
    revision: str | None = None


@dataclass(frozen=True)
class PublicData:
    """A data set.

    Args:
        name: Of its folder, too.
        about: What it is, in a few words.
        licence: What its owners say.
        home: Where it is had.
        files: That recipes, and the scripts that make their tables, name.
        copy: From where it can be fetched; None: it is put there by hand.
        by_hand: How; empty where it can be fetched.
    """

    name: str
    about: str
    licence: str
    home: str
    files: tuple[str, ...]
    copy: HubCopy | None = None
    by_hand: str = ""

    @property
    def folder(self) -> Path | None:
        """Where it is; None: nowhere, or not all of it."""
        places = (each / self.name for each in data_folders())
        return next((place for place in places if all((place / file).is_file() for file in self.files)), None)


_ALL = (
    PublicData(
        "sst2",
        "SST-2, sentiment of sentences of film reviews",
        "none stated for the data",
        "https://huggingface.co/datasets/SetFit/sst2",
        ("train.tsv", "dev.tsv", "test.tsv"),
        HubCopy(
            "SetFit/sst2",
            {"sentence": "text", "label": "label"},
            {"train.tsv": ("train", 6920), "dev.tsv": ("validation", 872), "test.tsv": ("test", 1821)},
        ),
    ),
    PublicData(
        "trec",
        "TREC, types of questions",
        "for research",
        "https://cogcomp.seas.upenn.edu/Data/QA/QC/",
        ("train.tsv", "test.tsv"),
        HubCopy(
            "SetFit/TREC-QC",
            {"question": "text", "coarse": "label_coarse_original", "fine": "label_original"},
            {"train.tsv": ("train", 5452), "test.tsv": ("test", 500)},
        ),
    ),
    PublicData(
        "banking77",
        "BANKING77, 77 intents of bank customers",
        "CC BY 4.0",
        "https://github.com/PolyAI-LDN/task-specific-datasets",
        ("train.csv", "test.csv"),
        HubCopy(
            "mteb/banking77",
            {"text": "text", "category": "label_text"},
            {"train.csv": ("train", 10003), "test.csv": ("test", 3080)},
        ),
    ),
    PublicData(
        "clinc150",
        "CLINC150, 150 intents and questions that have none",
        "CC BY 3.0",
        "https://github.com/clinc/oos-eval",
        ("data_small.json", "domains.json"),
        by_hand="Both are in the folder data/ there.",
    ),
    PublicData(
        "movielens_small",
        "MovieLens latest-small, what people thought of films",
        "for research; see its README.txt",
        "https://grouplens.org/datasets/movielens/latest/",
        ("movies.csv", "ratings.csv"),
        by_hand="Both are in https://files.grouplens.org/datasets/movielens/ml-latest-small.zip.",
    ),
    PublicData(
        "airline_tweets",
        "Twitter US Airline Sentiment, tweets of a week of 2015",
        "CC BY-NC-SA 4.0",
        "https://huggingface.co/datasets/osanseviero/twitter-airline-sentiment",
        ("tweets.csv",),
        by_hand="Its columns are called otherwise here: created (tweet_created), airline, sentiment "
        "(airline_sentiment), reason (negativereason), text. The oldest come first, as 2015-02-16T23:36.",
    ),
    PublicData(
        "waimai",
        "waimai_10k, Chinese reviews of food delivery",
        "none stated",
        "https://github.com/SophonPlus/ChineseNlpCorpus",
        ("waimai_10k.csv",),
        by_hand="It is datasets/waimai_10k/waimai_10k.csv there.",
    ),
    PublicData(
        "e2e_nlg",
        "E2E NLG, sentences about restaurants from tables",
        "CC BY-SA 4.0",
        "https://huggingface.co/datasets/tuetschek/e2e_nlg",
        ("valid.txt", "test.txt"),
        HubCopy(
            "tuetschek/e2e_nlg",
            {"meaning_representation": "meaning_representation", "human_reference": "human_reference"},
            {"valid.txt": ("validation", 4672), "test.txt": ("test", 4693)},
            revision="refs/convert/parquet",
        ),
    ),
    PublicData(
        "faq_stack",
        "StackFAQ (Karan and Šnajder 2018), questions and the FAQ entry that answers each",
        "CC BY-SA",
        "https://github.com/ML-Recipes/BERT-FAQ",
        ("docs.jsonl", "queries.jsonl"),
        by_hand="That page has a copy, in other files. docs.jsonl: doc_id, question, answers; queries.jsonl: query, "
        "doc_id.",
    ),
)
PUBLIC_DATA: Mapping[str, PublicData] = {each.name: each for each in _ALL}


def find_public_data(name: str) -> PublicData:
    """A data set by its name.

    Raises:
        UserError: There is none of that name.
    """
    if name not in PUBLIC_DATA:
        raise UserError(f"no data set is called `{name}`", hint=did_you_mean(name, list(PUBLIC_DATA)))
    return PUBLIC_DATA[name]


def fetch_public_data(
    data: PublicData, folder: Path, *, offline: bool, report: ProgressCallback | None = None
) -> list[Path]:
    """Write a data set's files from its copy on the Hub; those that are there stay as they are.

    Args:
        data: With a copy.
        folder: In which its own folder is made.
        offline: Use the local cache of the Hub alone.
        report: Is told of the download, and where the copy has changed.

    Returns:
        The files that were written.

    Raises:
        UnsupportedError: It has no copy; with how it is put there by hand.
        SourceError: The Hub cannot be reached.
        DataError: The copy has other columns or splits than it had.
    """
    target = folder / data.name
    missing = [file for file in data.files if not (target / file).exists()]
    if not missing:
        return []
    if data.copy is None:
        raise UnsupportedError(
            f"{data.name} is put there by hand: {' and '.join(data.files)} in {target}",
            where=data.home,
            hint=f"{data.by_hand} Licence: {data.licence}.",
        )
    config = DataConfig(source=data.copy.hub_id, revision=data.copy.revision)
    try:
        tables = load_hub_tables(data.copy.hub_id, config, offline=offline, report=report)
    except SourceError as error:
        by_hand = f"Or put {' and '.join(missing)} into {target} by hand, from {data.home}."
        raise SourceError(error.message, where=error.where, hint=f"{why_not_reached()} {by_hand}") from None
    written = []
    for file in missing:
        split, rows = data.copy.splits[file]
        table = tables.get(split)
        lost = sorted(set(data.copy.columns.values()) - set(table.names)) if table is not None else [split]
        if table is None or lost:
            what = "split" if table is None else "columns"
            raise DataError(
                f"the copy on the Hub has no {what} {', '.join(lost)} any more",
                where=data.copy.hub_id,
                hint=f"The data set itself: {data.home}.",
            )
        if len(table) != rows and report:
            report(f"{file}: {len(table):,} rows; it had {rows:,} when recipes were written for it")
        columns = [table.columns[theirs] for theirs in data.copy.columns.values()]
        _write(target / file, list(data.copy.columns), columns)
        written.append(target / file)
    return written


def _write(path: Path, names: Sequence[str], columns: Sequence[Sequence[Any]]) -> None:
    """A table as recipes read it: with commas, with tabs and no quotes, or with `||` and no names."""
    rows = zip(*columns, strict=True)
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            csv.writer(file, lineterminator="\n").writerows([names, *rows])
            return
        mark, head = ("||", ()) if path.suffix == ".txt" else ("\t", (names,))
        for row in (*head, *rows):
            file.write(mark.join(" ".join(str(value).split()) for value in row) + "\n")
