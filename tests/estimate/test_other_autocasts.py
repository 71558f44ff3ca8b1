"""Other packages, such as torchvision, register operations with CUDA's autocast too: estimates leave them alone."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from peftlab.estimate.as_cuda import as_on_cuda, differing_operations


def test_operations_of_other_packages_are_left_alone() -> None:
    own = torch.library.Library("somebody", "FRAGMENT")
    own.define("deform(Tensor x) -> Tensor")
    own.impl("deform", lambda x: x.clone(), "AutocastCUDA")
    try:
        assert "somebody::deform" in torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA")
        assert all(name.startswith("aten::") for name in differing_operations())
        with FakeTensorMode(), as_on_cuda():
            kept = torch.nn.functional.layer_norm(torch.empty(2, 4), (4,))
        assert kept.shape == (2, 4)
    finally:
        own._destroy()
