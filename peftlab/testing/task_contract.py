"""What every task must keep, in one short run on a tiny base.

Rows are encoded and collated, the loss falls, and what was saved, and loaded again, predicts the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from peftlab.core.config import Document
from peftlab.core.registry import Registry
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import TASKS
from peftlab.testing.broken_contract import require
from peftlab.testing.plugin_contract import PluginContract, Section, told
from peftlab.testing.tiny_bases import tiny_base

STEPS = 16
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class TaskCase:
    """How a task is tried.

    Args:
        section: The task, as a recipe writes it.
        rows: Makes rows that it can learn; None: it makes its own.
        base: ``tiny_bert``, ``tiny_gpt2``, ``tiny_vit``, ``tiny_clip``, or the recipe's section ``model``.
        method: By which it is tuned.
    """

    section: Section
    rows: Callable[[], Rows] | None
    base: str | Mapping[str, Any] = "tiny_bert"
    method: str = "lora"

    def __str__(self) -> str:
        return told(self.section) if self.method == "lora" else f"{told(self.section)}-{self.method}"


@dataclass(frozen=True)
class Done:
    """A run of a task, and what it was made of."""

    recipe: Any
    folder: Path
    record: Any
    checked: Any
    loaded: Any

    def test_split(self) -> EncodedSplit:
        """The encoded test split, as the run saw it."""
        from peftlab.inference.prepared_rows import with_prepared

        tuned = self.loaded.tuned
        split = tuned.task.encode(self.checked.data.splits["test"], tuned.tokenizer, self.checked.labels)
        return with_prepared(tuned, split, offline=True)


class TaskContract(PluginContract):
    """The tests of a task. Inherit them in a file that pytest collects, with rows that the task can learn.

    .. code-block:: python

        from peftlab.testing import TaskContract


        class TestParaphrases(TaskContract):
            plugin = {"type": "paraphrases", "max_length": 16}

            def rows(self):
                return [{"text": f"a good day {at}", "paraphrase": f"{at} is a great day"} for at in range(64)]
    """

    registry: ClassVar[Registry[Any]] = TASKS
    shared: ClassVar[Collection[str]] = ("case",)
    base: ClassVar[str | Mapping[str, Any]] = "tiny_bert"
    """``tiny_bert``, ``tiny_gpt2``, ``tiny_vit``, ``tiny_clip``, or the recipe's section ``model``."""
    tuned_by: ClassVar[str] = "lora"
    """The method."""

    def rows(self) -> Rows:
        """Rows that a tiny model can learn from; 64 are enough."""
        raise NotImplementedError(f"{type(self).__name__} has no rows: write `def rows(self)`, or `rows = None`")

    def cases(self) -> Sequence[TaskCase]:
        """How the tasks are tried."""
        return [TaskCase(section, self.rows, self.base, self.tuned_by) for section in self.sections()]

    def parameters(self) -> Mapping[str, Sequence[Any]]:
        """Besides: ``case`` is a task, and how it is tried."""
        return {**super().parameters(), "case": self.cases()}

    def done(self, case: TaskCase, tmp_path_factory: Any) -> Done:
        """The run of a case, which is made once."""
        key = (type(self), str(case))
        if key not in _DONE:
            _DONE.clear()  # tests of one case come one after the other
            _DONE[key] = self._run(case, tmp_path_factory)
        return _DONE[key]

    def _run(self, case: TaskCase, tmp_path_factory: Any) -> Done:
        from peftlab.inference.loaded import load
        from peftlab.preparation.check import check_recipe
        from peftlab.recipe.schema import Recipe
        from peftlab.run.run import run_recipe

        self.build(case.section)
        folder = tmp_path_factory.mktemp("task")
        path = tiny_base(case.base, Path(tmp_path_factory.getbasetemp())) if isinstance(case.base, str) else None
        values: dict[str, Any] = {
            "name": str(case),
            "model": dict(case.base) if isinstance(case.base, Mapping) else {"path": str(path)},
            "task": dict(case.section),
            "method": {"type": case.method},
            "training": {"max_steps": STEPS, "batch_size": 8, "learning_rate": 1e-2, "log_every_steps": 1},
        }
        if case.rows is not None:
            source = _write_rows(case.rows(), folder)
            values["data"] = {"source": source, "validation_fraction": 0.2, "test_fraction": 0.2}
        recipe = Recipe.from_dict(values)
        record = run_recipe(recipe, output_dir=folder / "run").record
        require(record.status == "success", f"{case}: the run has ended as {record.status}: {record.error}")
        checked = check_recipe(recipe, Document(source=recipe.name, values={}), offline=True)
        return Done(recipe, folder / "run", record, checked, load(folder / "run"))

    def test_the_loss_falls_and_every_guard_holds(self, case: TaskCase, tmp_path_factory: Any) -> None:
        """Sixteen steps teach a tiny model something, and the scores are of the metrics that the task names."""
        done = self.done(case, tmp_path_factory)
        lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
        losses = [-line.get("reward", -line["loss"]) for line in lines if "loss" in line]  # or the reward rises
        require(
            sum(losses[-4:]) < sum(losses[:4]),
            f"{case}: {STEPS} steps do not lower the loss: {', '.join(f'{loss:.3g}' for loss in losses)}",
            hint="Are the rows such that a model can learn them, and does `loss` say how wrong it is?",
        )
        for name, guard in done.record.guards.items():
            require(guard.status in ("passed", "not_applicable"), f"{case}: the guard `{name}`: {guard.detail}")
        named = {*TASKS[done.recipe.task.registered_name].metrics, "loss"}
        for split, scores in done.record.scores.items():
            strangers = sorted(set(scores) - named)
            require(not strangers, f"{case}: the scores of {split} have {', '.join(strangers)}, which `metrics` lacks")

    def test_the_reloaded_run_predicts_the_same(self, case: TaskCase, tmp_path: Path, tmp_path_factory: Any) -> None:
        """Scores and predictions of the run's folder are those that the run has written."""
        import pyarrow.parquet as pq

        from peftlab.training.evaluation import PredictionWriter, evaluate

        done = self.done(case, tmp_path_factory)
        tuned, split = done.loaded.tuned, done.test_split()
        model, inference = tuned.module()
        with PredictionWriter(tmp_path / "again.parquet") as writer:
            scores = evaluate(
                model,
                tuned.task,
                split,
                tuned.batches(tuned.task.lengths(split.examples)),
                pad_token_id=tuned.tokenizer.pad_token_id,
                inference=inference,
                writer=writer,
            )
        hint = "What the task learns from the rows must be among its fields; what it draws must be the same each time."
        for name, score in done.record.scores["test"].items():
            require(is_near(scores[name], score, 1e-5), f"{case}: reloaded, {name} is {scores[name]}, and was {score}",
                    hint=hint)  # fmt: skip
        again = pq.read_table(tmp_path / "again.parquet").to_pylist()
        rows = pq.read_table(done.folder / "predictions.parquet").to_pylist()
        stored = [row for row in rows if row["split"] == "test"]
        for key in ("index", "label", "prediction"):
            one, other = ([_alike(row[key]) for row in each] for each in (stored, again))
            require(one == other, f"{case}: reloaded, the {key}s of the test rows are other ones", hint=hint)

    def test_the_loss_of_a_batch_is_that_of_its_parts(self, case: TaskCase, tmp_path_factory: Any) -> None:
        """``loss`` is a sum over ``loss_terms``, whatever the order; ``divisible`` says whether a batch may be cut."""
        import torch

        done = self.done(case, tmp_path_factory)
        tuned, examples = done.loaded.tuned, list(done.test_split().examples[:6])
        task, (model, _) = tuned.task, tuned.module()

        def loss_of(part: list[Any]) -> tuple[float, int]:
            torch.manual_seed(0)
            batch = task.collate(part, tuned.tokenizer.pad_token_id)
            with torch.no_grad():
                return float(task.training_loss(model, batch)), task.loss_terms(batch)

        (whole, terms), parts = loss_of(examples), [loss_of([example]) for example in examples]
        counted = sum(own for _, own in parts)
        require(
            terms == counted, f"{case}: `loss_terms` says {terms} of a batch, and {counted} of its examples together"
        )
        total = sum(loss for loss, _ in parts)
        if task.divisible:
            require(
                is_near(whole, total, 1e-4),
                f"{case}: the loss of a batch is {whole:.6g}, and of its examples one by one {total:.6g}",
                hint="`loss` is the sum over the terms, not their mean, and padding counts for nothing. Where examples "
                "are compared with one another: divisible = False.",
            )
        else:
            require(
                not is_near(whole, total, 1e-4),
                f"{case}: divisible = False, and the loss of a batch is that of its examples one by one",
                hint="Leave divisible out: then batches may be cut, and need less memory.",
            )
        random.Random(0).shuffle(examples)  # noqa: S311 - no secrets
        shuffled = loss_of(examples)[0]
        require(is_near(shuffled, whole, 1e-4), f"{case}: in another order the loss is {shuffled:.6g}, not {whole:.6g}")

    def test_the_bias_of_a_head_trains_where_it_matters(self, case: TaskCase, tmp_path_factory: Any) -> None:
        """``Head(bias_trains=False)`` where one number added to all outputs changes nothing, and only there."""
        import torch

        from peftlab.core.tensors import output_layer

        done = self.done(case, tmp_path_factory)
        tuned, examples = done.loaded.tuned, list(done.test_split().examples[:6])
        task, head = tuned.task, tuned.task.head(done.checked.labels)
        if not head.is_new or (layer := output_layer(tuned.module()[0], int(head.config["num_labels"]))) is None:
            return
        batch = task.collate(examples, tuned.tokenizer.pad_token_id)

        def loss_where(first_output_is_more_by: float) -> float:
            shift = torch.eye(layer.out_features)[0] * first_output_is_more_by
            handle = layer.register_forward_hook(lambda module, inputs, output: output + shift.to(output.device))
            with torch.no_grad():
                loss = float(task.loss(task.logits(tuned.module()[0], batch), batch))
            handle.remove()
            return loss

        stays = abs(loss_where(first_output_is_more_by=1.0) - loss_where(first_output_is_more_by=0.0)) <= 1e-3
        require(
            head.bias_trains != stays,
            f"{case}: the loss {'does not depend' if stays else 'depends'} on the bias of the head's last layer, and "
            f"`head` says bias_trains={head.bias_trains}",
        )

    def test_the_estimate_agrees_with_the_measurement(self, case: TaskCase, tmp_path_factory: Any) -> None:
        """`peftlab estimate` is within a tenth of what training takes, and knows how long an example can be."""
        from peftlab.estimate.data import look_at_data
        from peftlab.estimate.recipe import estimate_recipe
        from peftlab.estimate.target import find_target

        done = self.done(case, tmp_path_factory)
        checked, batch = look_at_data(done.checked)
        require(batch is not None, f"{case}: `estimate` finds no rows")
        estimate = estimate_recipe(checked, find_target("cpu"), batch=batch, advise=False)
        own, measured = estimate.memory.phases["train"], done.record.memory.peak_bytes
        require(
            is_near(own, measured, 0.1),
            f"{case}: `peftlab estimate` says {own:,} bytes, and training takes {measured:,}",
        )
        task = done.recipe.task
        length = task.length(task.placeholder(12, done.checked.labels))
        require(length == 12, f"{case}: `placeholder(12, …)` is an example of length {length}")
        longest = max(task.lengths(done.test_split().examples))
        require(
            longest <= task.longest(), f"{case}: `longest()` is {task.longest()}, and an example has {longest} tokens"
        )


_DONE: dict[tuple[type[TaskContract], str], Done] = {}


def is_near(value: float, wanted: float, tolerance: float) -> bool:
    """Whether two numbers are equal but for a share of the second."""
    return abs(value - wanted) <= max(tolerance * abs(wanted), 1e-12)


def _write_rows(rows: Rows, folder: Path) -> str:
    """A file of JSON Lines; images lie beside it."""
    for at, row in enumerate(rows):
        for key, value in row.items():
            if hasattr(value, "save"):
                row[key] = f"{at}.png"
                value.save(folder / row[key])
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _alike(value: Any) -> Any:
    """Numbers to five digits; a model may compute the last ones in another order."""
    return f"{value:.5g}" if isinstance(value, float) else value
