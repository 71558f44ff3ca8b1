"""What a method must keep in a run of its own: guards, checkpointing, the estimate, and regularisers beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from peftlab.core.config import Document
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS
from peftlab.core.registry import Registry
from peftlab.core.regularizer import REGULARIZERS
from peftlab.preparation.check import check_recipe
from peftlab.preparation.rehearsal import rehearse_memory
from peftlab.recipe.schema import Recipe, build_recipe
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.plugin_contract import PluginContract, Section, told
from peftlab.testing.tiny_bases import sentences, tiny_base
from peftlab.testing.training_jobs import TASKS, check_estimate, checked, job_of
from peftlab.training.loop import optimizer_step
from peftlab.training.steps import Step

GUARDS = ("trainable_parameters", "gradients", "loss_finite", "adapter_changed", "reload_agrees")
"""Those that eight steps under gradient checkpointing can break."""


@dataclass(frozen=True)
class OnBase:
    """A method and a base.

    Args:
        section: The method, as a recipe writes it.
        base: By its name.
    """

    section: Section
    base: str

    def __str__(self) -> str:
        return f"{told(self.section)}-{self.base}"


class MethodInRuns(PluginContract):
    """Tests of a method in short runs on two tiny bases, an encoder and a decoder."""

    registry: ClassVar[Registry[Any]] = METHODS
    bases: ClassVar[Sequence[str]] = ("tiny_bert", "tiny_gpt2")
    """The bases that runs begin with."""

    def parameters(self) -> Mapping[str, Sequence[Any]]:
        """Besides: ``base`` is each of the bases, ``estimated`` a method and one on which its estimate is looked at."""
        estimated = [OnBase(section, base) for section in self.sections() for base in self.estimated_on(section)]
        return {**super().parameters(), "base": self.bases, "estimated": estimated}

    def estimated_on(self, section: Section) -> Sequence[str]:
        """The bases on which a method's estimate is looked at."""
        return self.bases

    def base_folder(self, base: str, tmp_path_factory: Any) -> Path:
        """Where a tiny base lies."""
        return tiny_base(base, Path(tmp_path_factory.getbasetemp()))

    def test_a_run_passes_its_guards_with_gradient_checkpointing_too(
        self, section: Section, base: str, tmp_path: Path, tmp_path_factory: Any
    ) -> None:
        """Or ``supports_gradient_checkpointing = False`` says that it learns nothing so, and such a run is refused."""
        whose = f"{section['type']} on {base}"
        supports = self.build(section).supports_gradient_checkpointing
        recipe, document = _recipe(section, self.base_folder(base, tmp_path_factory), tmp_path)
        if not supports:
            try:
                check_recipe(recipe, document, offline=True)
            except UnsupportedError as error:
                require("does not work with gradient checkpointing" in str(error), f"{whose}: {error}")
                return
            raise BrokenContractError(f"{whose}: gradient checkpointing is taken, which it does not support")
        with _checkpointed() as seen:
            self._run(whose, recipe, document, tmp_path)
        require(seen, f"{whose}: gradient checkpointing has no effect on the model that `apply` gives")

    def _run(self, whose: str, recipe: Recipe, document: Document, folder: Path) -> None:
        from peftlab.run.run import run_recipe

        record = run_recipe(recipe, document, output_dir=folder / "run", offline=True).record
        require(
            record.status == "success",
            f"{whose}: the run has ended as {record.status}: {record.error}",
            hint="If activations cannot be computed twice: supports_gradient_checkpointing = False.",
        )
        for name in GUARDS:
            guard = record.guards[name]
            require(guard.status == "passed", f"{whose}: the guard `{name}` of the run: {guard.detail}")

    def test_the_estimate_agrees_with_the_measurement(self, estimated: OnBase, tmp_path_factory: Any) -> None:
        """`peftlab estimate` runs `apply` and a step on shapes alone, and is right to three hundredths."""
        folder, task = self.base_folder(estimated.base, tmp_path_factory), TASKS["text_classification"][1]
        ready = checked(folder, task, [], method=dict(estimated.section))
        job = job_of(ready)
        check_estimate(ready, job, rehearse_memory(job).peak_bytes, str(estimated))

    def refused_regularizers(self, section: Section) -> Collection[str] | None:
        """The regularisers that the method cannot be used with; None: nobody has said which."""
        return None

    def test_each_regularizer_is_taken_or_refused_in_words(self, section: Section, tmp_path_factory: Any) -> None:
        """Two steps beside each that is installed: all is finite, and nothing frozen gets a gradient."""
        folder, refused = self.base_folder(self.bases[0], tmp_path_factory), set()
        for name in REGULARIZERS:
            if not _takes_steps(section, name, folder):
                refused.add(name)
        expected = self.refused_regularizers(section)
        require(
            expected is None or refused == set(expected),
            f"{section['type']}: not as expected are the refusals of {', '.join(refused ^ set(expected or ()))}",
        )


def _takes_steps(section: Section, regularizer: str, folder: Path) -> bool:
    """Whether a method and a regulariser are trained together; else they are refused."""
    import torch

    whose = f"{section['type']} with the regularizer {regularizer}"
    try:
        task = TASKS["text_classification"][1]
        ready = checked(folder, task, [{"type": regularizer}], dropout=0.1, method=dict(section))
        job = job_of(ready, rate=1e-3)
    except UnsupportedError:
        return False
    for number in (1, 2):
        loss, norm, _ = optimizer_step(job, Step(number, 0, [[0, 1, 2], [3, 4]], ends_epoch=False))
    require(torch.isfinite(loss), f"{whose}: the loss is not finite")
    require(norm is not None and torch.isfinite(norm), f"{whose}: the gradients are not finite")
    for own, parameter in job.model.named_parameters():
        require(torch.isfinite(parameter).all(), f"{whose}: {own} is not finite after a step")
        require(parameter.requires_grad or parameter.grad is None, f"{whose}: {own} is frozen, and has got a gradient")
    return True


def _recipe(section: Section, base: Path, folder: Path) -> tuple[Recipe, Document]:
    """A run of eight steps under gradient checkpointing."""
    rows = "".join(f"{text},{label}\n" for text, label in sentences(80))
    (folder / "rows.csv").write_text(f"text,label\n{rows}")
    values = {
        "model": {"path": str(base)},
        "task": {"type": "text_classification", "max_length": 24},
        "data": {"source": str(folder / "rows.csv"), "validation_fraction": 0.1, "max_train_examples": 64},
        "method": dict(section),
        "training": {"max_steps": 8, "batch_size": 8, "gradient_checkpointing": True},
        "measure": False,
    }
    document = Document(source="test", values=values)
    return build_recipe(document, default_name="tiny"), document


@contextmanager
def _checkpointed() -> Iterator[list[object]]:
    """What is computed under checkpointing."""
    from transformers import modeling_utils

    module: Any = modeling_utils
    real, seen = module.checkpoint, list[object]()

    def checkpoint(function: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(function)
        return real(function, *arguments, **options)

    with patch.object(module, "checkpoint", checkpoint):
        yield seen
