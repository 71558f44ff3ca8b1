"""The steps of the check: those first that tell most of what is not known yet.

Those whose figures do not depend on the time they take come together: they share a large card, which leaves more of the
minutes for those that must have it alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

GB = 10**9


@dataclass(frozen=True)
class Step:
    """One step: a module of ``steps/`` in a process of its own.

    Args:
        name: Of the step, and of its log.
        title: For people.
        module: Of ``steps/``.
        seconds: It is stopped after so many.
        least_seconds: It is not begun when fewer are left.
        card_bytes: The memory of the card that it needs at its full size.
        disk_bytes: The disk that it needs at its full size.
        alone: Whether nothing else may use the card meanwhile.
        settings: For the module.
        command: Instead of the module; for tests of the driver.
    """

    name: str
    title: str
    module: str = ""
    seconds: float = 120
    least_seconds: float = 10
    card_bytes: int = 0
    disk_bytes: int = 0
    alone: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()


def _contest(case: str, title: str, **bounds: Any) -> Step:
    return Step(f"contest_{case}", title, "contest", alone=True, settings={"case": case}, **bounds)


STEPS = (
    Step("environment", "Driver, card, versions, rates", "environment", seconds=60, least_seconds=0),
    # Together; the longest first, and the weights that the contests will find.
    Step("estimates", "estimate against the allocator", "estimates", seconds=140, card_bytes=8 * GB),
    Step(
        "weights", "Weights of the large models", "weights", seconds=120, card_bytes=70 * GB, disk_bytes=26 * GB,
    ),
    Step("gpu_tests", "Tests marked gpu", "gpu_tests", seconds=180),
    Step("kill_resume", "Killed and resumed", "kill_resume", seconds=140, card_bytes=4 * GB),
    Step(
        "methods_encoder", "peftlab run of a BERT with every method", "methods", seconds=140, card_bytes=4 * GB,
        settings={"family": "bert"},
    ),
    Step(
        "methods_decoder", "peftlab run of a Llama with every method", "methods", seconds=140, card_bytes=4 * GB,
        settings={"family": "llama"},
    ),
    Step("serving", "Four adapters on one bfloat16 base", "serving", seconds=120, card_bytes=4 * GB),
    # Alone; first what no card has told yet.
    Step(
        "offload", "The 3B in the CPU's memory", "graphs", seconds=90, least_seconds=40, card_bytes=12 * GB,
        disk_bytes=8 * GB, alone=True, settings={"case": "llama_3b", "ways": ["checkpointed", "offload"]},
    ),
    _contest(
        "llama_8b_nf4", "Llama-3-8B QLoRA (NF4), 4,096 tokens", seconds=150, least_seconds=50, card_bytes=60 * GB,
        disk_bytes=18 * GB,
    ),
    Step(
        "graphs", "BERT-base compiled, and with CUDA graphs", "graphs", seconds=100, least_seconds=30,
        card_bytes=8 * GB, alone=True, settings={"case": "bert_base", "ways": ["off", "compile", "graphs"]},
    ),
    Step("large_batch", "A batch too large for the card", "large_batch", seconds=90, card_bytes=6 * GB, alone=True),
    Step(
        "graphs_llama_3b", "The 3B with CUDA graphs", "graphs", seconds=90, least_seconds=40, card_bytes=30 * GB,
        disk_bytes=8 * GB, alone=True, settings={"case": "llama_3b", "ways": ["off", "graphs"]},
    ),
    # Then what has been told once.
    _contest("bert_base", "BERT-base LoRA, short texts", seconds=90, card_bytes=8 * GB),
    _contest(
        "llama_8b", "Llama-3-8B LoRA, 4,096 tokens", seconds=150, least_seconds=40, card_bytes=70 * GB,
        disk_bytes=18 * GB,
    ),
    _contest(
        "llama_3b", "Llama-3.2-3B LoRA r32", seconds=120, least_seconds=40, card_bytes=30 * GB, disk_bytes=8 * GB
    ),
    _contest(
        "llama_8b_off", "The same 8B without acceleration", seconds=150, least_seconds=50, card_bytes=70 * GB,
        disk_bytes=18 * GB,
    ),
    Step(
        "profile_bert_base", "One step of BERT-base under the profiler", "profile", seconds=60, card_bytes=8 * GB,
        alone=True, settings={"case": "bert_base"},
    ),
    Step(
        "profile", "One step of the 8B under the profiler", "profile", seconds=90, least_seconds=30,
        card_bytes=70 * GB, disk_bytes=18 * GB, alone=True, settings={"case": "llama_8b"},
    ),
    Step(
        "graphs_llama_8b", "The 8B with CUDA graphs", "graphs", seconds=120, least_seconds=50, card_bytes=70 * GB,
        disk_bytes=18 * GB, alone=True, settings={"case": "llama_8b", "ways": ["off", "graphs"]},
    ),
)  # fmt: skip
