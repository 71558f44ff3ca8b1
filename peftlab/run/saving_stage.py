"""Save the trained model, load it again as a stranger would, and compare the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.save import loaded_tensors, save_artifact, tensors_to_save
from peftlab.artifact.weights import fingerprint_artifact
from peftlab.core.files import folder_bytes
from peftlab.core.generators import kept_generators
from peftlab.core.method import MethodContext
from peftlab.core.record import Guard
from peftlab.core.splits import Example
from peftlab.core.task import Task
from peftlab.preparation.loading import Loader
from peftlab.run.processes import copied_to_all
from peftlab.run.run_context import RunContext
from peftlab.training.evaluation import compute_logits
from peftlab.training.fingerprints import fingerprints
from peftlab.training.reload_guards import check_effect, check_reload, lent_heads, trained_heads, trains_only_heads
from peftlab.training.sharding import gathered_root, whole_tensors

PROBE_EXAMPLES, PROBE_TOKENS = 16, 2048
"""Examples, and their tokens, on which the reloaded model is compared with the trained one; one example at least."""
RELOAD_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@dataclass(frozen=True)
class Trained:
    """What is kept of the trained model when it has been saved.

    Args:
        logits: Of the probe batch.
        tensors: Fingerprints of what had to be saved.
        heads: The heads' parameters.
        only_heads: Whether nothing else trains.
    """

    logits: Tensor
    tensors: Mapping[str, str]
    heads: Mapping[str, Tensor]
    only_heads: bool


class SavingStage:
    """Saving and reloading of a run; it holds no model.

    Args:
        run: What all stages know.
        loader: Loads the base anew.
    """

    def __init__(self, run: RunContext, loader: Loader) -> None:
        self._run, self._loader = run, loader

    def save(self, model: nn.Module, context: MethodContext) -> None:
        """Write ``adapter/`` or ``model/``."""
        weights = None
        if self._run.placement.shards and self._run.recipe.method.trains_base:
            weights = whole_tensors(model.state_dict(), keep=self._run.world.is_first)

        def write() -> tuple[int, str | None]:
            artifact = save_artifact(
                model,
                self._run.recipe.method,
                folder=self._run.folder.path,
                tokenizer=self._loader.tokenizer,
                context=context,
                base_path=self._loader.source,
                companions=self._run.recipe.task.companion_files(model.config),
                weights=weights,
            )
            is_whole = self._run.recipe.method.trains_base
            return folder_bytes(artifact), fingerprint_artifact(artifact, is_whole=is_whole)

        found = self._run.findings
        found.artifact_bytes, found.weights_fingerprint = self._run.world.first(write)

    def describe(self, model: nn.Module, context: MethodContext) -> Trained:
        """What the reloaded model is compared with."""
        heads = context.head_modules
        return Trained(
            logits=self._probe(model),
            tensors=fingerprints(tensors_to_save(model, self._run.recipe.method)),
            heads=trained_heads(model, heads),
            only_heads=trains_only_heads(model, heads),
        )

    def reload(self, trained: Trained) -> nn.Module:
        """Load what was saved, from the files alone, and check it."""
        run, guards, without = self._run, self._run.findings.guards, list[Tensor]()
        guards["adapter_has_effect"] = self._effect_is_told(trained)

        def load_base() -> Any:
            base = self._loader.load_base().model
            if guards["adapter_has_effect"].status == "passed":
                with lent_heads(run.placement.place(base), trained.heads):
                    without.append(self._probe(base))
            return base

        model = load_artifact(load_base, copied_to_all(run))
        loaded = fingerprints(loaded_tensors(model, run.recipe.method))  # before an adapter's layers are offloaded too
        model = run.placement.place(model)
        after = self._probe(model)
        guards["reload_agrees"] = check_reload(
            before=trained.logits,
            after=after,
            saved=trained.tensors,
            loaded=loaded,
            tolerance=RELOAD_TOLERANCE[run.autocast_dtype or run.dtype],
        )
        if without:
            guards["adapter_has_effect"] = check_effect(without[0], after)
        return model

    def _effect_is_told(self, trained: Trained) -> Guard:
        """Whether the base without the adapter can be compared with the reloaded model."""
        if self._run.recipe.method.trains_base:
            return Guard.not_applicable("the whole model was saved, and needs no base")
        if trained.only_heads:
            return Guard.not_applicable("only the head trains")
        if self._run.recipe.model.offload is not None:
            return Guard.not_applicable("the base is offloaded")
        if self._run.placement.shards:
            return Guard.not_applicable("the base is sharded")
        if self._run.findings.guards["adapter_changed"].status != "passed":
            return Guard.not_applicable("the adapter has not changed in training")
        return Guard.check(True, "")

    def _probe(self, model: nn.Module) -> Tensor:
        """Logits of a few examples."""
        run, task, splits = self._run, self._run.recipe.task, self._loader.splits
        split = splits.get("validation", splits["train"])
        examples = _first_tokens(task, split.examples[:PROBE_EXAMPLES])
        with kept_generators():  # what a batch draws, such as masks, must be the same both times
            torch.manual_seed(0)
            batch = task.collate(examples, self._loader.tokenizer.pad_token_id)
        model.eval()
        with torch.inference_mode(), gathered_root(model):
            return compute_logits(model, task, batch, device=run.device, autocast_dtype=run.autocast_dtype).cpu()


def _first_tokens(task: Task, examples: Sequence[Example]) -> Sequence[Example]:
    """The first examples, of so many tokens with padding; logits over a whole vocabulary take room."""
    longest = max(task.lengths(examples))
    return examples[: max(1, PROBE_TOKENS // longest)]
