"""What hooks learn of an earlier run before this one changes its weights; kept in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from peftlab.core.files import atomic_file
from peftlab.core.past import Past
from peftlab.preparation.earlier_rows import draw_rows
from peftlab.preparation.earlier_run import open_earlier
from peftlab.preparation.loading import Loader
from peftlab.run.run_context import RunContext
from peftlab.training.hooks import HookList

REMEMBERED = "remembered.safetensors"


def remember(run: RunContext, loader: Loader, hooks: HookList, model: nn.Module) -> None:
    """Let the hooks look at the earlier run; nothing happens where the run begins with a base.

    Args:
        run: What all stages know.
        loader: With the tokenizer.
        hooks: Have begun.
        model: On its device, with the earlier run's weights.
    """
    earlier, recipe, rows = open_earlier(run.recipe), run.recipe, run.checked.data.earlier
    if earlier is None or recipe.continues is None or not recipe.continues.weights or rows is None:
        return

    def examples(count: int) -> Iterator[dict[str, Tensor]]:
        drawn = recipe.task.encode(draw_rows(rows, count, recipe.task, recipe.seed), loader.tokenizer, loader.labels)
        for example in drawn.examples:
            batch = recipe.task.collate([example], loader.tokenizer.pad_token_id)
            yield {name: value.to(run.device) for name, value in batch.items()}

    path = earlier.folder / REMEMBERED
    kept = load_file(path, device=str(run.device)) if path.is_file() else {}
    with torch.autocast(run.device.type, run.autocast_dtype, enabled=run.autocast_dtype is not None):
        found: dict[str, Any] = hooks.remember(model, Past(recipe.task, examples, kept))
    if found:
        run.world.first(lambda: _write(found, run))


def _write(found: dict[str, Tensor], run: RunContext) -> None:
    with atomic_file(run.folder.path / REMEMBERED) as partial:
        save_file({name: value.detach().cpu().contiguous() for name, value in found.items()}, partial)
