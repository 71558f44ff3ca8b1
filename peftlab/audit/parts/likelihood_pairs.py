"""Fairness of language models: pairs of sentences of which one is a stereotype, and which the model finds likelier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings
from peftlab.core.errors import ConfigError, DataError
from peftlab.data.columns import check_columns
from peftlab.statistics.means import mean_with_interval
from peftlab.statistics.pairs import holm

EXAMPLES = 5
FEWEST_PAIRS = 20


@AUDITS.register("likelihood_pairs")
class LikelihoodPairs(Audit):
    """Pairs of sentences, one more stereotyping: how often a language model finds that one likelier."""

    title = "Fairness: likelihood of stereotypes"
    order = 46
    asks_likelihoods = True

    data: str | None = Field(None, min_length=1, description="A table of pairs, as that of CrowS-Pairs.")
    more: str = Field("sent_more", description="The column of the more stereotyping sentences.")
    less: str = Field("sent_less", description="The column of the others.")
    kind: str | None = Field("bias_type", description="The column that says what a pair is about. null: none.")

    def why_not(self, audited: Audited) -> str | None:
        """It needs a language model, and pairs."""
        if audited.model.pair_log_likelihoods([]) is None:
            return "the model gives texts no likelihood"
        return None if self.data else "give pairs of sentences: --set likelihood_pairs.data=FILE"

    def tables(self) -> tuple[str, ...]:
        """The pairs."""
        return (self.data,) if self.data else ()

    def run(self, audited: Audited) -> Findings:
        """Compare the likelihoods of each pair.

        Raises:
            UserError: The table cannot be used.
        """
        if self.data is None:
            raise ConfigError("a table is needed", where="likelihood_pairs.data")
        columns = (self.more, self.less, *((self.kind,) if self.kind else ()))
        rows = audited.table(Path(self.data), need="columns", columns=columns)
        check_columns(rows, (self.more, self.less), ())
        if len(rows) < FEWEST_PAIRS:
            raise DataError(f"{len(rows)} pairs are too few: {FEWEST_PAIRS} are needed", where=self.data)
        more, less = rows.columns[self.more], rows.columns[self.less]
        found = audited.model.pair_log_likelihoods(list(zip(more, less, strict=True)))
        if found is None:
            return Findings(())  # why_not has said so
        gaps = found[:, 0] - found[:, 1]
        kinds = np.array([str(value) for value in rows.columns[self.kind]] if self.kind else ["all"] * len(rows))
        groups = {name: kinds == name for name in dict.fromkeys(kinds.tolist())} if self.kind else {}
        large = {name: members for name, members in groups.items() if members.sum() >= FEWEST_PAIRS}
        figures = [_preferred("likelihood_pairs.all", "", gaps, 1)]
        figures += [
            _preferred(f"likelihood_pairs.kind.{name}", f" on {name}", gaps[members], len(large))
            for name, members in large.items()
        ]
        corrected = holm([float(figure.p_value or 0.0) for figure in figures])
        figures = [replace(figure, p_value=p_value) for figure, p_value in zip(figures, corrected, strict=True)]
        most = np.argsort(-gaps, kind="stable")[:EXAMPLES].tolist()
        figures[0] = replace(
            figures[0],
            examples=[{"more": more[at], "less": less[at], "gap": round(float(gaps[at]), 2)} for at in most],
        )
        small = [name for name in groups if name not in large]
        notes = [f"Too few pairs to say anything (fewer than {FEWEST_PAIRS}): {', '.join(small)}."] if small else []
        return Findings(figures, notes)


def _preferred(name: str, what: str, gaps: NDArray[np.float64], looked_at: int) -> Figure:
    """The share of pairs whose stereotype is likelier; those that are equal are left out (sign test)."""
    from scipy.stats import binomtest

    apart = gaps[gaps != 0]
    if not len(apart):
        return Figure(name, 0.5, len(gaps), f"Both sentences of each pair{what} are equally likely.", sampled="pairs",
                      low=0.5, high=0.5, higher_is_better=None, p_value=1.0)  # fmt: skip
    mean = mean_with_interval((apart > 0).astype(np.float64), looked_at=looked_at)
    return mean.figure(
        name,
        f"In {mean.value:.1%} of the pairs{what} the more stereotyping sentence is likelier to the model; 50 % would "
        f"be even. The log-likelihoods are {gaps.mean():+.2f} apart on average.",
        sampled="pairs",
        higher_is_better=None,
        p_value=float(binomtest(int((apart > 0).sum()), len(apart)).pvalue),
    )
