"""No module of peftlab imports itself by way of others, imports inside functions included."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp


def test_there_is_no_cycle_of_imports() -> None:
    """import-linter looks at packages; a cycle inside one would pass it. Imports for types alone are left out."""
    graph = grimp.build_graph("peftlab", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert imports["peftlab.run.run"]  # what is looked at is peftlab
    list(TopologicalSorter(imports).static_order())  # raises CycleError, which names the cycle
