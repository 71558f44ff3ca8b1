"""Every part of an audit, and every perturbation, keeps the contract that plugins keep."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.audit import AUDITS
from peftlab.core.perturbation import PERTURBATIONS
from peftlab.testing import AuditContract, PerturbationContract
from peftlab.testing.plugin_contract import Section

KEYS = {"group_fairness": {"by": ["group"]}}
WITH_FILES = {"canaries", "contrast", "likelihood_pairs", "out_of_scope", "safety", "shift"}
"""They look at further tables, at sets of rows, or at a language model; their own tests have these."""


class TestAudits(AuditContract):
    def sections(self) -> Sequence[Section]:
        return [{"type": name, **KEYS.get(name, {})} for name in AUDITS if name not in WITH_FILES]


class TestPerturbations(PerturbationContract):
    def sections(self) -> Sequence[Section]:
        return [{"type": name} for name in PERTURBATIONS if name != "paraphrase"]  # which needs a run that writes
