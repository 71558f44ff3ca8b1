"""The recipe of a run that goes on from another one, and how both do on the same rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import Config, Document, parse_yaml_value
from peftlab.core.errors import ConfigError, UnsupportedError, UserError, first_line
from peftlab.core.past import BEFORE
from peftlab.core.record import PREDICTIONS_NAME, RECIPE_NAME
from peftlab.measurement.example_intervals import intervals_of_file
from peftlab.recipe.schema import Recipe, assign, build_recipe, override
from peftlab.run.reproduce.pairing import PairedAnswers, Unjudged, read_answers
from peftlab.run.run import RunResult

GIVEN = {"continues": "RUN", "continues.run": "RUN", "data": "--data", "data.source": "--data"}
"""Keys of the recipe that are said otherwise when a run is to go on, and how."""


def continuation_recipe(
    earlier: SavedRun, data: str, *, replay: float, overrides: Sequence[str] = ()
) -> tuple[Recipe, Document]:
    """The recipe of the earlier run, for new rows.

    Args:
        earlier: The run to go on from.
        data: Address of the new rows, or ``{train: …, test: …}`` as in ``data.source``: they are read by the usual
            rules, and cut into splits as the earlier rows were where they have none.
        replay: The share of earlier training rows to learn again.
        overrides: ``key.path=value`` each.

    Raises:
        ConfigError: An override is wrong, or says what ``earlier`` and ``data`` say.
        UnsupportedError: The run's data come from no table.
    """
    for key in (assignment.partition("=")[0].strip() for assignment in overrides):
        if key in GIVEN:
            raise ConfigError(
                f"`{key}` is {GIVEN[key]} here", where="--set", hint=f"Give another {GIVEN[key]} instead."
            )
    values = earlier.recipe.model_dump(mode="json")
    if earlier.recipe.data is None:
        task = earlier.recipe.task.registered_name
        raise UnsupportedError(f"the task {task} made the run's data itself, and new rows would be none of its own")
    values["data"] = earlier.recipe.data.model_dump(mode="json", exclude_defaults=True)
    document = Document(source=str(earlier.folder / RECIPE_NAME), values=values)
    changes: dict[str, Any] = {
        "name": _next_name(earlier.name),
        "continues": {"run": str(earlier.folder.resolve()), "replay": replay},
        "data.source": parse_yaml_value(data, source="--data") if data.lstrip().startswith("{") else data,
        "data.fold": None,
        "training.self_training": None,
        "training.distillation": None,
    }
    if earlier.is_whole:
        changes["model"] = {**values["model"], "path": str(earlier.folder.resolve()), "revision": None}
        changes["model"] |= {"from_config": None, "tokenizer": None, "add_tokens": []}
    if "distillation" not in values["training"]:
        del changes["training.distillation"]
    document = override(assign(document, changes, dict.fromkeys(changes, "peftlab continue")), overrides)
    return build_recipe(document, default_name=earlier.name), document


def _next_name(name: str) -> str:
    """``tweets`` goes on as ``tweets-2``, and that as ``tweets-3``."""
    found = re.fullmatch(r"(.*)-(\d{1,3})", name)
    return f"{found[1]}-{int(found[2]) + 1}" if found else f"{name}-2"


class Change(Config):
    """What has become of a score on the same rows."""

    split: str
    metric: str
    n: int = Field(description="Rows.")
    earlier: float
    now: float
    interval: tuple[float, float] | None = Field(description="95 % over the rows, of the new score.")
    difference: float | None = Field(description="Null where it cannot be tested.")
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    higher_is_better: bool
    notes: tuple[str, ...] = Field((), description="Where an interval is too narrow, and why.")

    @property
    def is_worse(self) -> bool:
        """Whether it has got worse by more than chance."""
        if self.low is None or self.high is None:
            return False
        return self.high < 0 if self.higher_is_better else self.low > 0


def compare_with_earlier(result: RunResult) -> list[Change]:
    """The main metric on every test split, of the run and of the one that it went on from, paired by row.

    Args:
        result: Of a run that goes on, with success.

    Raises:
        UserError: Its predictions cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from peftlab.core.metric import METRICS
    from peftlab.recipe.schema import with_learned

    record = result.record
    if record.earlier is None:
        return []
    run = SavedRun.open(result.folder)
    recipe, metric = with_learned(run.recipe, record.learned), str(record.recipe["evaluation"]["metric"])
    path = result.folder / PREDICTIONS_NAME
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"the predictions cannot be read: {first_line(error)}", where=str(path)) from None
    found = []
    for split, scores in record.earlier.scores.items():
        before, now = read_answers(table, BEFORE + split), read_answers(table, split)
        if before is None or now is None or metric not in scores or metric not in record.scores[split]:
            continue
        tested = PairedAnswers(before, now, lambda: recipe.scorer(run.labels)).compare(metric)
        intervals = intervals_of_file(path, split, [metric])
        values = {"difference": None} if isinstance(tested, Unjudged) else vars(tested)
        found.append(
            Change(
                split=split,
                metric=metric,
                n=len(now.index),
                earlier=scores[metric],
                now=record.scores[split][metric],
                interval=intervals.by_metric[metric],
                higher_is_better=METRICS[metric].higher_is_better,
                **(values | {"notes": intervals.notes}),
            )
        )
    return found
