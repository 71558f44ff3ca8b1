"""Who imports peft does not wait for torch's compiler, and has it where a function asks for it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from peftlab.core.late_compilation import compiled_when_called

IMPORTS = """
import sys
found_by = list(sys.meta_path)
import peftlab
assert sys.meta_path == found_by
from peftlab.core import late_compilation
late_compilation.begin()
import torch
compiler = torch.compile
import peft
assert "bitsandbytes.backends.default.ops" in sys.modules
assert "torch._inductor.compile_fx" not in sys.modules
assert torch.compile is compiler
"""


def test_peft_is_imported_without_the_compiler() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


def test_a_function_is_compiled_once_by_its_first_call() -> None:
    asked: list[dict[str, Any]] = []

    def compiler(function: Any, **settings: Any) -> Any:
        asked.append(settings)
        return lambda number: ("compiled", function(number))

    decorated = compiled_when_called(compiler, dynamic=False)(abs)
    plain = compiled_when_called(compiler, abs)
    assert not asked
    assert decorated.__name__ == "abs"
    assert [decorated(-1), decorated(-2), plain(-3)] == [("compiled", number) for number in (1, 2, 3)]
    assert asked == [{"dynamic": False}, {}]
