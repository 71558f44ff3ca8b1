"""Losses are float32 under autocast too: it would round what is divided by a small temperature."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from peftlab.core.products import product
from peftlab.tasks._embedding_losses import info_nce, supervised_contrastive
from peftlab.tasks._ranking_losses import listwise, pairwise
from peftlab.tasks.windows import WEIGHTS, pooled

KEYS = torch.arange(32).view(2, 16).T
OWNERS = torch.arange(32) // 16
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "info_nce": lambda vectors: info_nce(vectors, KEYS, temperature=0.01, symmetric=True),
    "clip": lambda vectors: info_nce(vectors * 10, KEYS, temperature=1, symmetric=True),
    "supervised_contrastive": lambda vectors: supervised_contrastive(vectors, OWNERS, temperature=0.1),
    "listwise": lambda vectors: listwise(vectors[:, 0] * 9, torch.arange(32) % 16 / 15, OWNERS),
    "pairwise": lambda vectors: pairwise(vectors[:, 0] * 9, torch.arange(32) % 16 / 15, OWNERS),
    "windows": lambda vectors: pooled(vectors, {WEIGHTS: torch.eye(32).repeat_interleave(2, 1)[:16, :32] / 3}).sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_no_loss(name: str) -> None:
    found = []
    for enabled in (False, True):
        vectors = normalize(torch.randn(32, 64, generator=torch.Generator().manual_seed(0)) + 1, dim=1).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = LOSSES[name](vectors)
        assert loss.dtype == torch.float32
        loss.backward()
        found.append((loss.detach(), vectors.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_a_product_is_that_of_its_factors() -> None:
    one = torch.randn(3, 5)
    wanted = one @ one.T
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal((one @ one.T).float(), wanted)
        assert torch.equal(product(one, one.T), wanted)
