"""Evaluate: scores and predictions of every split but train, and the validation scores while training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from torch import nn

from peftlab.core.files import atomic_file
from peftlab.core.past import BEFORE, START
from peftlab.core.reporter import progress_bar
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Policy, Prediction, Task
from peftlab.measurement.calibration import LogitCollector, calibrate
from peftlab.preparation.earlier_run import describe_earlier, open_earlier
from peftlab.preparation.loading import Loader
from peftlab.run.run_context import RunContext
from peftlab.training.answers import AnswerWatch
from peftlab.training.evaluation import PredictionWriter, TakesPredictions, evaluate


class EvaluationStage:
    """Evaluation of a run; it holds no model.

    Args:
        run: What all stages know.
        loader: With the data.
    """

    def __init__(self, run: RunContext, loader: Loader) -> None:
        self._run, self._loader = run, loader
        self._before: list[_KeptPredictions] = []

    @property
    def _task(self) -> Task:
        """The recipe's, with what was learned of the answers."""
        task = self._run.recipe.task
        return task.fitted({**task.learned, **self._run.findings.learned}) if self._run.findings.learned else task

    def _learn_answers(self, model: nn.Module) -> None:
        """What the task chooses on the validation split."""
        task, validation = self._run.recipe.task, self._loader.splits.get("validation")
        if not task.learns_answers or validation is None:
            return
        kept = _KeptPredictions()
        self.score(model, validation, kept)
        self._run.findings.learned = task.learn_answers(kept.predictions, self._run.checked.labels)

    def evaluate_before(self, model: nn.Module) -> None:
        """Score the earlier run on this run's test rows, if it goes on from one, and keep its predictions.

        Args:
            model: Before its first step.
        """
        run, settings = self._run, self._run.recipe.continues
        earlier = open_earlier(run.recipe)
        if earlier is None or settings is None:
            return
        found = describe_earlier(earlier)
        if settings.weights:
            scores = self._score_tests(model, BEFORE)
            run.findings.earlier = found.model_copy(update={"scores": scores})
            return
        start_scores = self._score_tests(model, START)
        theirs = run.placement.place(earlier.load_model(offline=run.offline))
        scores = self._score_tests(theirs, BEFORE)
        run.findings.earlier = found.model_copy(update={"scores": scores, "start_scores": start_scores})

    def _score_tests(self, model: nn.Module, prefix: str) -> dict[str, dict[str, float]]:
        model.eval()
        scores = {}
        for name, split in self._loader.splits.items():
            if name.startswith("test"):
                kept = _KeptPredictions(prefix + name)
                scores[name] = self.score(model, split, kept)
                self._before.append(kept)
        return scores

    def evaluate(self, model: nn.Module) -> None:
        """Score the model that was saved and loaded again, and write its predictions."""
        self._learn_answers(model)
        run, task, kept = self._run, self._task, dict[str, LogitCollector]()
        with PredictionWriter(run.folder.predictions) as file:
            writer = AnswerWatch(task, file)
            for each in self._before:
                file.write(each.split, each.index, each.predictions)
            for name, split in self._loader.splits.items():
                if name == "train":
                    continue
                if task.has_probabilities and name in ("validation", "test"):
                    kept[name] = LogitCollector()
                run.findings.scores[name] = self.score(model, split, writer, keep_logits=kept.get(name))
        self._compare_with_base(model)
        if run.findings.guards["adapter_changed"].status != "failed":
            run.findings.guards["answers_vary"] = writer.result(steps=run.findings.progress.step)
        run.findings.calibration = calibrate(task, kept, run.checked.labels)

    def _compare_with_base(self, model: nn.Module) -> None:
        """Add what the task says of the model beside its untouched base, where it wants to."""
        run, task = self._run, self._task
        if not task.compares_with_base:
            return
        base = run.placement.place(self._loader.load_base().model).requires_grad_(False).train(False)
        tokenizer, rows = self._loader.tokenizer, list[dict[str, Any]]()
        policy = Policy(model.train(False), base, run.inference(tokenizer), tokenizer.pad_token_id)
        for name, split in self._loader.splits.items():
            if name != "train":
                found = task.compare_with_base(policy, split)
                run.findings.scores[name].update(found.scores)
                rows += [{"split": name, **row} for row in found.rows]
        with atomic_file(run.folder.compared) as partial:
            partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The validation scores that choose the best epoch."""
        with self._run.findings.clock.phase("evaluate"):
            metric = self._run.recipe.evaluation.metric
            return self.score(model, self._loader.splits["validation"], None, metric=metric)

    def score(
        self,
        model: nn.Module,
        split: EncodedSplit,
        writer: TakesPredictions | None,
        *,
        metric: str | None = None,
        keep_logits: LogitCollector | None = None,
    ) -> dict[str, float]:
        """Scores of a model on a split; arguments as for :func:`peftlab.training.evaluation.evaluate`."""
        run, recipe, tokenizer = self._run, self._run.recipe, self._loader.tokenizer

        def after_batch(examples: int) -> None:
            run.reporter.advance(examples)
            run.interrupts.check()

        with progress_bar(run.reporter, f"evaluating {split.name}", len(split)):
            return evaluate(
                model,
                self._task,
                split,
                recipe.evaluation_batches(recipe.task.lengths(split.examples)),
                pad_token_id=tokenizer.pad_token_id,
                inference=run.inference(tokenizer, metric),
                writer=writer,
                after_batch=after_batch,
                keep_logits=keep_logits,
                scorer=recipe.scorer(run.checked.labels),
                with_loss=metric is not None,  # while training: it parts epochs of one score
                world=run.world,
            )


class _KeptPredictions:
    """Predictions as they come.

    Args:
        split: What they are called.
    """

    def __init__(self, split: str = "") -> None:
        self.split = split
        self.index: list[int] = []
        self.predictions: list[Prediction] = []

    def write(self, split: str, index: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Take those of a batch."""
        self.index.extend(index)
        self.predictions.extend(predictions)
