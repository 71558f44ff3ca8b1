"""torch's compiler, loaded when a function of bitsandbytes is first called that wants it.

bitsandbytes asks for it as soon as it is imported, and peft imports bitsandbytes: to load the compiler takes every
process that trains or predicts a second and a half, and few ever call what is compiled.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

ASKS_EARLY = "bitsandbytes.backends.default.ops"


def begin() -> None:
    """Have bitsandbytes, where it is imported from now on, ask for the compiler when it needs it."""
    if ASKS_EARLY not in sys.modules and not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def compiled_when_called(
    compiler: Callable[..., Any], function: Callable[..., Any] | None = None, **settings: Any
) -> Callable[..., Any]:
    """What ``torch.compile`` gives for a function, but compiled by the first call.

    Args:
        compiler: ``torch.compile``.
        function: To compile; None: a decorator is given.
        **settings: Of the compiler.
    """
    if function is None:
        return functools.partial(compiled_when_called, compiler, **settings)
    compiled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not compiled:
            compiled.append(compiler(function, **settings))
        return compiled[0](*args, **kwargs)

    return call


class _Finder:
    """Finds the one module that asks early."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        spec: ModuleSpec | None = PathFinder.find_spec(name, path, target) if name == ASKS_EARLY else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        import torch

        compiler = torch.compile
        torch.compile = functools.partial(compiled_when_called, compiler)
        try:
            super().exec_module(module)
        finally:
            torch.compile = compiler
