"""What is tried for real, in a process of its own: ``python -m peftlab.doctor.trial NAME`` prints a JSON object.

A library that is broken may end its process, or hang; the doctor only sees that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

MARK = "peftlab-trial: "


def try_torch() -> dict[str, Any]:
    """Products of matrices on the CPU, and on the CUDA card where there is one."""
    import torch

    found: dict[str, Any] = {"version": torch.__version__, "built_for_cuda": torch.version.cuda or torch.version.hip}
    _check_product("cpu", torch.float32, 1e-4)
    if torch.cuda.is_available():
        from peftlab.core.bfloat16 import card_has_bfloat16

        free, total = torch.cuda.mem_get_info()
        found |= {"card": torch.cuda.get_device_name(), "memory_bytes": total, "free_bytes": free}
        found["bfloat16"] = card_has_bfloat16()
        _check_product("cuda", torch.float32, 1e-2)  # TensorFloat-32 may compute it
        if found["bfloat16"]:
            _check_product("cuda", torch.bfloat16, 5e-2)
    return found


def _check_product(device: str, dtype: Any, tolerance: float) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(192, 192, generator=generator, dtype=torch.float64) for _ in range(2))
    product = (left.to(device, dtype) @ right.to(device, dtype)).cpu().double()
    error = float((product - left @ right).norm() / (left @ right).norm())
    if not error <= tolerance:
        raise ArithmeticError(f"a product in {dtype} on {device} is wrong by {error:.2g}")


def try_bitsandbytes() -> dict[str, Any]:
    """Each kind of quantised matrix multiplied, and a step of an 8-bit optimizer."""
    import bitsandbytes as bnb
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def four_bits(kind: str) -> None:
        layer = bnb.nn.Linear4bit(128, 128, bias=False, quant_type=kind, compute_dtype=torch.float32)
        _check_layer(layer, device, 0.2)

    def eight_bits() -> None:
        _check_layer(bnb.nn.Linear8bitLt(128, 128, bias=False, has_fp16_weights=False), device, 0.05)

    def optimizer() -> None:
        parameter = torch.nn.Parameter(torch.ones(8192, device=device))
        stepper = bnb.optim.AdamW8bit([parameter], lr=0.1)
        torch.autograd.backward(parameter.sum())
        stepper.step()
        if not bool((parameter < 1).all()):
            raise ArithmeticError("a step of the 8-bit optimizer changed nothing")

    parts: dict[str, Callable[[], None]] = {
        "nf4": lambda: four_bits("nf4"),
        "fp4": lambda: four_bits("fp4"),
        "int8": eight_bits,
        "adamw_8bit": optimizer,
    }
    return {
        "version": bnb.__version__,
        "device": device,
        "works": {name: _outcome(part) for name, part in parts.items()},
    }


def _check_layer(layer: Any, device: str, tolerance: float) -> None:
    import torch

    torch.manual_seed(0)
    plain = torch.randn(128, 128)
    layer.weight.data.copy_(plain)
    inputs = torch.randn(4, 128)
    with torch.no_grad():
        said = layer.to(device)(inputs.to(device)).float().cpu()
    error = float((said - inputs @ plain.T).norm() / (inputs @ plain.T).norm())
    if not error <= tolerance:
        raise ArithmeticError(f"a product is wrong by {error:.2g}")


def _outcome(part: Callable[[], None]) -> str:
    try:
        part()
    except Exception as error:  # noqa: BLE001 - what a broken library raises is what is looked for
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return "works"


def try_training() -> dict[str, Any]:
    """A step of LoRA on a tiny model, by transformers' and peft's code and by peftlab's faster parts: the same loss."""
    import torch
    import transformers

    from peftlab.acceleration.accelerated import accelerated
    from peftlab.methods._wrap import wrap

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
    )
    model = wrap(transformers.LlamaForCausalLM(config), "lora", rank=4).to(device)
    tokens = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0)).to(device)
    plain = float(model(input_ids=tokens, labels=tokens).loss)
    with accelerated(model) as parts:
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
    if not abs(float(loss) - plain) <= 1e-3 * abs(plain):
        raise ArithmeticError(f"peftlab's faster parts give the loss {float(loss):.6f}, and torch's own {plain:.6f}")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if any(parameter.grad is None for parameter in trained):
        raise ArithmeticError("a parameter that should train gets no gradient")
    return {"device": device.type, "parts": parts}


TRIALS = {"torch": try_torch, "bitsandbytes": try_bitsandbytes, "training": try_training}


def main(name: str) -> None:
    """Try one of them, and print what came out."""
    try:
        found: dict[str, Any] = {"found": TRIALS[name]()}
    except Exception as error:  # noqa: BLE001 - what a broken library raises is what is looked for
        found = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
    print(MARK + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
