"""All that a method must keep: the tests that its author inherits."""

from __future__ import annotations

from peftlab.testing.method_in_runs import MethodInRuns
from peftlab.testing.method_on_models import MethodOnModels


class MethodContract(MethodOnModels, MethodInRuns):
    """The tests of a method. Inherit them in a file that pytest collects, and say which method they are of.

    .. code-block:: python

        from peftlab.testing import MethodContract


        class TestNormTuning(MethodContract):
            plugin = {"type": "norm_tuning"}

    The models are random and tiny, made in a moment and without a network: choose keys that fit two layers with hidden
    states of 32 numbers. ``refuses`` names the kinds of models that the method is not for.
    """
