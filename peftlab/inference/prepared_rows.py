"""What a task computes with the untouched base, for rows that a finished run is scored on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from peftlab.artifact.saved_export import open_saved
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.errors import UnsupportedError
from peftlab.core.splits import EncodedSplit
from peftlab.inference.load_tuned import load_untuned
from peftlab.inference.tuned_model import TunedModel
from peftlab.run.prepared import TorchUntouchedBase, with_values

if TYPE_CHECKING:
    from torch import Tensor, nn


def with_prepared(tuned: TunedModel, split: EncodedSplit, *, offline: bool) -> EncodedSplit:
    """The rows with what the task prepares for them; a task that prepares nothing gives them back as they are.

    Args:
        tuned: The model that is to be scored.
        split: Encoded.
        offline: Allow no network.

    Raises:
        UserError: The base is needed, and cannot be had.
    """
    given = tuned.task.prepare({split.name: split}, _BaseOfRun(tuned, offline=offline))
    if given is None:
        return split
    return with_values(split, {f"{split.name}/{name}": value for name, value in given[split.name].items()})


class _BaseOfRun:
    """The base that a run began with; it is loaded when it is asked."""

    def __init__(self, tuned: TunedModel, *, offline: bool) -> None:
        self._tuned, self._offline = tuned, offline

    def values(self, split: EncodedSplit, function: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]) -> Tensor:
        """See :class:`peftlab.core.task.UntouchedBase`."""
        return self._base.values(split, function)

    @functools.cached_property
    def _base(self) -> TorchUntouchedBase:
        tuned, saved = self._tuned, open_saved(self._tuned.folder)
        if not isinstance(saved, SavedRun):
            raise UnsupportedError(
                f"{tuned.task.registered_name} is scored against the base model, which an export leaves behind",
                where=str(tuned.folder),
                hint="Evaluate the run itself.",
            )
        device = None if tuned.inference is None else tuned.inference.device
        untuned = load_untuned(saved, offline=self._offline, device=device)
        model, inference = untuned.module()
        return TorchUntouchedBase(
            model, tuned.task, inference, batches=tuned.batches, pad_token_id=tuned.tokenizer.pad_token_id
        )
