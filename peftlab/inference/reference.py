"""The data of a run that it was not trained on: what an export, or a merge of several runs, is measured with."""

from __future__ import annotations

from peftlab.core.errors import UserError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.splits import EncodedSplit
from peftlab.inference.prepared_rows import with_prepared
from peftlab.inference.tuned_model import TunedModel
from peftlab.preparation.load_data import load_data


def load_held_out(
    tuned: TunedModel, *, names: tuple[str, ...] = ("validation", "test"), offline: bool, report: ProgressCallback
) -> EncodedSplit:
    """The first of the named splits that the run has, tokenised.

    Args:
        tuned: Its recipe names the data.
        names: Splits, in the order of preference.
        offline: Allow no network.
        report: Is told of downloads.

    Raises:
        UserError: The run has none of these splits, or its data are not there any more.
    """
    recipe, task = tuned.recipe, tuned.task
    data = load_data(recipe, offline=offline, report=report)
    record = tuned.record
    if record is not None and record.data is not None and record.data.fingerprint != data.summary.fingerprint:
        report("the data have changed since the run, so rows held out now may have been training rows")
    for name in names:
        if name in data.splits:
            split = data.splits[name]
            task.check_split(split, tuned.labels)
            return with_prepared(tuned, tuned.encode(split), offline=offline)
    raise UserError(f"the run has no {' and no '.join(names)} split to check an export on", where=str(tuned.folder))
