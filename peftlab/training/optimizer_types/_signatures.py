"""The optimizers of an installed package, read from its source: nothing of it is imported.

So ``peftlab validate`` and ``ls`` know every key without loading torch; a newer version of a package brings its own.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_KEYS = frozenset(
    {
        "params",
        "lr",
        "weight_decay",
        "weight_decay_rate",
        "foreach",
        "fused",
        "maximize",
        "capturable",
        "differentiable",
        "optim_bits",
        "is_paged",
        "args",
        "model_sharding",
        "process_group",
        "adamw_wd",
    }
)
"""What the recipe says elsewhere, the loop decides, or would turn learning around."""


@dataclass(frozen=True)
class Signature:
    """What an optimizer takes.

    Args:
        class_name: In its package.
        summary: The first line of its docstring.
        defaults: Of the keys that a recipe can write.
        has_none: Keys that may be null.
        learning_rate: Its default; None: it has none.
        decays: Whether it knows weight decay.
        required: Arguments without a default, beside the parameters.
    """

    class_name: str
    summary: str
    defaults: Mapping[str, Any]
    has_none: frozenset[str]
    learning_rate: float | None
    decays: bool
    required: tuple[str, ...]


def signatures_in(package: str, folder: str) -> Iterator[Signature]:
    """All optimizers in a folder of a package; nothing where the package is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return
    for file in sorted(Path(spec.submodule_search_locations[0], folder).rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found = _signature(node)
                if found is not None:
                    yield found


def recipe_name(class_name: str) -> str:
    """``ScheduleFreeAdamW`` → ``schedule_free_adamw``, ``AdamW8bit`` → ``adamw_8bit``."""
    known = _ONE_WORD.get(class_name)
    if known is not None:
        return known
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z]([a-z]|[A-Z]))|(?<=[A-Za-z])(?=8bit)", "_", class_name).lower()
    return re.sub(r"^ada_", "ada", apart)


_ONE_WORD = {
    "AdEMAMix": "ademamix",
    "SimplifiedAdEMAMix": "simplified_ademamix",
    "AdEMAMix8bit": "ademamix_8bit",
    "PagedAdEMAMix": "paged_ademamix",
    "PagedAdEMAMix8bit": "paged_ademamix_8bit",
    "GaLore": "galore",
    "LaProp": "laprop",
    "LoRARite": "lora_rite",
    "RMSprop8bit": "rmsprop_8bit",
    "SCIONLight": "scion_light",
    "SGDSaI": "sgd_sai",
    "SophiaH": "sophia_h",
}
"""Names that capital letters would cut in the wrong places."""


def _signature(node: ast.ClassDef) -> Signature | None:
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    init = methods.get("__init__")
    if init is None:
        return None
    arguments = init.args.args[1:]
    values: list[ast.expr | None] = [None] * (len(arguments) - len(init.args.defaults)) + list(init.args.defaults)
    pairs = [*zip(arguments, values, strict=True), *zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)]
    names = {argument.arg for argument, _ in pairs}
    if not names & {"params", "model", "optimizer"}:
        return None  # a part of an optimizer
    defaults, nullable, rate = {}, set(), None
    for argument, value in pairs:
        if value is None:
            continue
        try:
            default = ast.literal_eval(value)
        except ValueError:
            continue  # a function, a dtype or another object, which a recipe cannot write
        if argument.arg == "lr":
            rate = default
        elif argument.arg not in NOT_KEYS:
            annotation = ast.unparse(argument.annotation) if argument.annotation else ""
            if default is None and not re.search(r"\b(int|float|bool|str)\b", annotation):
                continue
            defaults[argument.arg] = _Typed.of(default, annotation)
            if default is None or "None" in annotation or "Optional" in annotation:
                nullable.add(argument.arg)
    required = tuple(a.arg for a, value in pairs if value is None and a.arg != "params")
    text = (ast.get_docstring(node) or "").strip().split("\n")[0]
    return Signature(node.name, text, defaults, frozenset(nullable), rate, "weight_decay" in names, required)


@dataclass(frozen=True)
class _Typed:
    """A default and the type that a recipe's value must have."""

    default: Any
    kind: Any

    @classmethod
    def of(cls, default: Any, annotation: str) -> _Typed:
        if default is None:
            words = re.findall(r"\b(int|float|bool|str)\b", annotation)
            return cls(None, {"int": int, "float": float, "bool": bool, "str": str}[words[0]])
        if isinstance(default, int) and not isinstance(default, bool) and "float" in annotation:
            return cls(float(default), float)
        if isinstance(default, tuple | list):
            whole = all(isinstance(item, int) for item in default)
            return cls(list(default), list[int] if whole and default else list[float])
        whole_or_not: Any = int | float
        is_open = type(default) is int and not annotation
        return cls(default, whole_or_not if is_open else type(default))
