"""What a tuned model makes of texts: probabilities of classes, and vectors, from one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.core.errors import UnsupportedError
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.core.selection import Candidates, Evidence, Strategy
from peftlab.core.splits import Split
from peftlab.inference.tuned_model import TunedModel
from peftlab.tasks.text_inputs import token_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float64]

VECTORS = frozenset[Evidence]({"vectors", "labelled_vectors"})
LABELLED = frozenset[Evidence]({"labelled_probabilities", "labelled_vectors"})


def gather(strategy: Strategy, tuned: TunedModel, pool: Split, train: Split, reporter: Reporter) -> Candidates:
    """What a strategy must know of the pool, and of the texts that the run was trained on.

    Args:
        strategy: Its ``uses`` says what.
        tuned: The model.
        pool: The texts to choose from.
        train: The run's training split.
        reporter: Shows the progress.

    Raises:
        UnsupportedError: Vectors are needed, and the model gives none.
    """
    uses = strategy.uses
    of_pool = _look_at(tuned, pool, "the pool", bool(uses & VECTORS), reporter)
    of_train = _Seen(np.zeros((0, 0)), np.zeros((0, 0)))
    if uses & LABELLED:
        of_train = _look_at(tuned, train, "the training texts", bool(uses & VECTORS), reporter)
    return Candidates(
        count=len(pool),
        classes=tuned.labels,
        probabilities=of_pool.probabilities,
        vectors=of_pool.vectors,
        labelled_probabilities=of_train.probabilities,
        labelled_vectors=of_train.vectors,
    )


@dataclass(frozen=True)
class _Seen:
    probabilities: Floats
    vectors: Floats


def _look_at(tuned: TunedModel, split: Split, what: str, with_vectors: bool, reporter: Reporter) -> _Seen:
    task, inputs = tuned.task, tuned.task.input_columns()
    # Labels are not looked at: so training rows are encoded as the pool is, without what only training needs.
    rows = Split("data", split.index, {column: split.columns[column] for column in inputs}, split.source)
    examples = tuned.encode(rows).examples
    probabilities: list[Any] = [()] * len(examples)
    vectors: list[Any] = [()] * len(examples)
    with progress_bar(reporter, f"reading {what}", len(examples)):
        for positions in tuned.batches(task.lengths(examples)):
            batch = task.collate([examples[at] for at in positions], tuned.tokenizer.pad_token_id)
            with _states(tuned, with_vectors) as states:
                logits = tuned.compute_logits(batch)
            tuned.check_numbers(logits)
            if with_vectors:
                # Of an image all states count.
                means = token_mean(states(), batch) if "attention_mask" in batch else states().mean(dim=1)
                found = task.of_examples(means, batch).double().numpy()
                for at, vector in zip(positions, found, strict=True):
                    vectors[at] = vector
            if task.has_class_probabilities:
                for at, said in zip(positions, tuned.read_logits(logits, batch), strict=True):
                    probabilities[at] = said.scores
            reporter.advance(len(positions))
    return _Seen(np.asarray(probabilities, dtype=np.float64), np.asarray(vectors, dtype=np.float64))


@contextlib.contextmanager
def _states(tuned: TunedModel, wanted: bool) -> Iterator[Callable[[], Tensor]]:
    """While it lasts, the model also gives the states of its last layer (texts × tokens × size), as float32 on CPU."""
    outputs: list[Any] = []

    def given() -> Tensor:
        found = getattr(outputs[-1], "hidden_states", None) if outputs else None
        if found is None:
            raise UnsupportedError("the model does not give the states of its layers", where=str(tuned.folder))
        last: Tensor = found[-1]
        return last.float().cpu()

    if not wanted:
        yield given
        return
    if tuned.computes_alone:
        tuned.module()  # raises: an ensemble is no single model
    if tuned.model is None:
        raise UnsupportedError(
            "an ONNX export gives no vectors of texts", where=str(tuned.folder), hint="Select with the run itself."
        )

    def ask(_module: Any, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return arguments, {**keywords, "output_hidden_states": True}

    hooks = [
        tuned.model.register_forward_pre_hook(ask, with_kwargs=True),
        tuned.model.register_forward_hook(lambda _module, _arguments, output: outputs.append(output)),
    ]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()
