"""How peftlab is laid out: few floors, few modules at the top, short files, and no cycle of imports."""

from __future__ import annotations

import itertools
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent


def test_there_is_no_cycle_of_imports() -> None:
    """import-linter looks at packages; a cycle inside one would pass it. Imports inside functions count too."""
    graph = grimp.build_graph("peftlab", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert imports["peftlab.run.run"]  # what is looked at is peftlab
    list(TopologicalSorter(imports).static_order())  # raises CycleError, which names the cycle


def _modules() -> list[Path]:
    return sorted((ROOT / "peftlab").rglob("*.py"))


def test_floors_modules_and_files_are_few_and_short() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    floors = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    assert 1 < len(floors) <= 12
    assert len(list((ROOT / "peftlab").glob("*.py"))) <= 6
    lengths = {str(path): len(path.read_text().splitlines()) for path in _modules()}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_names_say_what_is_in_them() -> None:
    """What a module of such a name is about, only its lines tell."""
    names = {path.stem.strip("_") for path in (ROOT / "peftlab").rglob("*") if path.is_dir() or path.suffix == ".py"}
    assert "registry" in names
    assert names & {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"} == set()


def test_processes_of_torch_have_one_home() -> None:
    """import-linter knows packages as a whole, and not torch's parts."""
    users = {path.parts[len(ROOT.parts) + 1] for path in _modules() if "torch.distributed" in path.read_text()}
    assert users == {"training"}


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports each by its name alone, and would collect none of the suite."""
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(names) > 100
    assert [name for name, following in itertools.pairwise(names) if name == following] == []
