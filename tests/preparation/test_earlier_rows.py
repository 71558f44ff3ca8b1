"""Rows of the runs before: none that tests one is learned, and runs of one suite have the same data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peftlab.core.splits import Split
from peftlab.data.data_config import DataConfig
from peftlab.data.row_rules import RowRules
from peftlab.data.splits import LoadedData, load_splits
from peftlab.preparation.earlier_rows import with_earlier_rows, without_earlier_rows
from peftlab.preparation.teachers import without_rows_of_teachers
from peftlab.tasks.text_classification import TextClassification

TASK = TextClassification()


def table(path: Path, name: str, count: int = 120) -> str:
    rows = "".join(f"{name} text number {at} of many,{'ab'[at % 2]}\n" for at in range(count))
    path.write_text(f"text,label\n{rows}")
    return str(path)


def load(source: Any, **settings: Any) -> LoadedData:
    rules = RowRules(text_columns=("text",), label_columns=("label",), strata=TASK.strata)
    return load_splits(
        DataConfig(source=source, **{"split_seed": 0, "validation_fraction": 0.2, **settings}), rules, seed=0
    )


def texts(split: Split | None) -> list[str]:
    return [] if split is None else list(split.columns["text"])


def test_texts_without_labels_are_none_that_an_earlier_run_is_tested_on(tmp_path: Path) -> None:
    earlier = load(table(tmp_path / "a.csv", "film"))
    tested, learned = (texts(earlier.splits[name])[0] for name in ("test", "train"))
    pool = tmp_path / "pool.csv"
    pool.write_text(f"text\n{tested}\n{tested.replace('film', 'Film')}!\n{learned}\nsomething else\n")
    own = load({"train": table(tmp_path / "b.csv", "book"), "unlabeled": str(pool)})
    assert len(texts(own.unlabeled)) == 4
    found = without_earlier_rows(own, [earlier], TASK)
    assert texts(found.unlabeled) == [learned, "something else"]
    assert found.summary.notes["unlabeled_rows_of_earlier_runs"] == 2, "the nearly same one too"
    assert found.summary.notes["unlabeled_rows"] == 2
    found = without_rows_of_teachers(own, TASK, [{"test": earlier.splits["test"]}])
    assert texts(found.unlabeled) == [learned, "something else"], "nor does a student learn what tests its teacher"
    assert found.summary.notes["unlabeled_rows_that_test_teachers"] == 2


def test_all_seeds_of_a_suite_have_the_same_data(tmp_path: Path) -> None:
    """From the third task of a sequence on each seed drew its own validation rows, and was a comparison by itself."""
    earlier = [load(table(tmp_path / f"{name}.csv", name)) for name in ("film", "book")]
    source = table(tmp_path / "song.csv", "song")

    def of_seed(seed: int, **settings: Any) -> LoadedData:
        own = without_earlier_rows(load(source, **settings), earlier, TASK)
        return with_earlier_rows(own, earlier, TASK, replay=0.5, seed=seed, split_seed=0)

    one, other = of_seed(1), of_seed(2)
    assert texts(one.splits["validation"]) == texts(other.splits["validation"])
    assert texts(one.splits["train"]) != texts(other.splits["train"]), "other rows are learned again"
    assert one.summary.fingerprint == other.summary.fingerprint
    drawn = [of_seed(seed, max_train_examples=20, draw_seed=seed) for seed in (1, 2)]
    assert texts(drawn[0].splits["train"])[:20] != texts(drawn[1].splits["train"])[:20]
    assert {each.summary.fingerprint for each in drawn} == {one.summary.fingerprint}


@pytest.mark.parametrize("shared", [0, 30])
def test_seeds_that_draw_their_rows_stay_one_data_set_beside_teachers(tmp_path: Path, shared: int) -> None:
    """A teacher may be tested on a row that one seed draws and another one does not."""
    source = table(tmp_path / "film.csv", "film")
    whole = load(source)
    tested = whole.splits["train"]
    teacher = {"test": Split("test", range(shared), {"text": texts(tested)[:shared], "label": ["a"] * shared}, "x")}
    found = [
        without_rows_of_teachers(load(source, max_train_examples=20, draw_seed=seed), TASK, [teacher])
        for seed in range(4)
    ]
    assert len({tuple(texts(each.splits["train"])) for each in found}) == 4
    assert len({each.summary.fingerprint for each in found}) == 1
    assert (found[0].summary.fingerprint == whole.summary.fingerprint) is (shared == 0)
