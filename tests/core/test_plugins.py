"""Packages of others: what is wrong with one is told with its name and place, and breaks nothing else."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, model_validator

import peftlab
from peftlab import METHODS, REGULARIZERS, Method, Metric, Regularizer, Task
from peftlab.artifact.saved_folder import read_run_recipe
from peftlab.audit.run_audit import run_parts, texts_to_read
from peftlab.bench.ray_cluster import version_reader
from peftlab.cli.ls import ls
from peftlab.cli.output import show_error
from peftlab.core.audit import AUDITS, Audit, Findings
from peftlab.core.config import Config
from peftlab.core.definitions import define
from peftlab.core.errors import ConfigError, UserError
from peftlab.core.plugins import missing_packages, plugin_versions
from peftlab.core.record import RunRecord, write_record
from peftlab.core.registry import Registry, UnknownNameError
from peftlab.core.reporter import Silent
from peftlab.doctor.machine import look_at_packages
from peftlab.measurement.environment import package_versions
from peftlab.recipe.json_schema import recipe_schema
from tests.methods.test_plugin import install

pytestmark = pytest.mark.slow

HEAD = "from peftlab import METHODS, Method\n\n\n"
BODY = '    """A method."""\n\n    def apply(self, model, context):\n        return model\n'
UNWRITABLE = f"""
from collections.abc import Callable

from peftlab import Method


class Unwritable(Method):
{BODY}
    act: Callable[[float], float] | None = None
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that Python looks into; what was imported from it is gone afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def methods() -> Registry[Method]:
    """A registry of methods that has looked for no plugin yet."""
    group, reserved = METHODS.entry_point_group, METHODS.reserved[1:]
    return Registry("method", package=METHODS.package, entry_point_group=group, base=Method, reserved=reserved)


def test_what_is_wrong_with_a_plugin_is_told_with_its_package_and_place(
    site: Path, methods: Registry[Method], capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "ends_all", "import sys\n\nsys.exit('needs Python 4')", "ends_all = ends_all")
    install(site, "lacks", "print('hello')\nimport does_not_exist", "lacks = lacks")
    install(site, "empty", "", "empty = empty")
    install(site, "made", "def build():\n    pass", "made = made:build")
    install(site, "unwritable", UNWRITABLE, "unwritable = unwritable:Unwritable")
    install(site, "fine", f"{HEAD}class Fine(Method):\n{BODY}", "fine = fine:Fine")
    for number in (1, 2):
        install(site, f"twin_{number}", "import does_not_exist", f"twin = twin_{number}")
    assert methods.names() == ["fine"]
    told = methods.broken
    assert told["ends_all"] == f"SystemExit: needs Python 4 (ends_all 1.0, {site.name}/ends_all.py:3)"
    assert told["lacks"].startswith("ModuleNotFoundError: No module named 'does_not_exist' (lacks 1.0, ")
    assert "lacks.py:2" in told["lacks"]
    assert "`empty` registers no method" in told["empty"]
    assert "@METHODS.register('empty')" in told["empty"]
    assert "`made:build` is a function" in told["made"]
    assert "YAML cannot hold every key of unwritable.Unwritable" in told["unwritable"]
    assert {why.partition("(")[2][:8] for name, why in told.items() if name.startswith("twin")} == {
        "twin_1 1",
        "twin_2 1",
    }
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "hello\n")  # `--json` promises one object on standard output
    with pytest.raises(UnknownNameError, match="The plugin `ends_all` could not be loaded: SystemExit: needs Python 4"):
        methods["fien"]


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        ("two words", "class Odd(Method):\n", "cannot be called 'two words'"),
        ("odd", "class Odd(peftlab.Regularizer):\n", "Odd does not derive from Method"),
        ("odd", "def odd():\n", "odd does not derive from Method"),
        (
            "odd",
            "class Odd(Method):\n    penalty: float = 0.1\n",
            "the key `penalty` of the method `odd` hides what Tr",
        ),
        (
            "odd",
            "class Odd(Method):\n    mergeable: bool = True\n",
            "hides what Method calls so\n  A fact of the class",
        ),
        ("odd", "class Odd(Method):\n    select: int = 3\n", "the method `odd` cannot have a key `select`"),
        ("odd", "class Odd(Method):\n    type: str = 'a'\n", "the method `odd` cannot have a key `type`"),
        ("odd", "class Odd(Method):\n    paper = 3\n", "has paper = 3\n  paper is a text"),
        ("odd", "class Odd(Method):\n    search_space = {'rank': (1, 2)}\n", "has search_space = {'rank': (1, 2)}"),
        (
            "odd",
            "class Odd(Method):\n    search_space = {'method.rank': (1, 2)}\n",
            "has search_space = {'method.rank'",
        ),
        ("odd", "class Odd(Method):\n    rank: int = 1\n    search_space = {'method.rank': 2}\n", "{'method.rank': 2}"),
        ("odd", "class Odd(Method):\n    mergeable = 'no'\n", "has mergeable = 'no'\n  mergeable is True or False"),
    ],
)
def test_what_is_no_method_is_refused(methods: Registry[Method], name: str, body: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        exec(  # noqa: S102
            f"import peftlab\nfrom peftlab import Method\n\n\n@METHODS.register({name!r})\n{body}{BODY}",
            {"METHODS": methods, "__name__": "odd"},
        )
    assert told in str(caught.value)


def test_metrics_that_are_written_as_a_key_are_told_as_such() -> None:
    tasks: Registry[Task] = Registry("task", package="peftlab.tasks", entry_point_group="peftlab.tasks", base=Task)
    with pytest.raises(ConfigError, match=r"the key `metrics` of the task `typed` hides what TaskAnswers calls so"):

        @tasks.register("typed")
        class Typed(Task):  # type: ignore[misc]
            """Its metrics are typed as a key is."""

            metrics: tuple[str, ...] = ("accuracy",)  # type: ignore[misc]


def test_one_name_is_not_taken_for_many() -> None:
    metrics: Registry[Metric] = Registry(
        "metric", package="peftlab.metrics", entry_point_group="peftlab.metrics", base=Metric
    )
    with pytest.raises(ConfigError, match=r"has tasks = 'text_classification'\n  tasks is a tuple of texts"):

        @metrics.register("cost")
        class Cost(Metric):
            higher_is_better = False
            tasks = "text_classification"  # type: ignore[assignment]


def test_threads_that_ask_at_once_all_see_all(site: Path) -> None:
    things = site / "slow_things"
    things.mkdir()
    (things / "__init__.py").write_text(
        "from peftlab.core.registry import Registry\n\nTHINGS = Registry(\n"
        "    'thing', package='slow_things', entry_point_group='peftlab.slow_things', base=object\n)\n"
    )
    for name in ("one", "two"):
        (things / f"{name}.py").write_text(
            "import time\n\nfrom slow_things import THINGS\n\ntime.sleep(0.1)\n\n\n"
            f"@THINGS.register('{name}')\nclass Thing:\n    pass\n"
        )
    registry, found = importlib.import_module("slow_things").THINGS, list[bool]()
    threads = [threading.Thread(target=lambda: found.append("two" in registry)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_nested_classes_of_a_plugin_take_no_place_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    class TrainingConfig(Config):
        """Not that of peftlab."""

        mine: int = 3

    class Schedule(Config):
        """Nor this."""

        mine: int = 4

    class Nested(Method):
        """A method with sections."""

        registered_name = "nested"
        training: TrainingConfig = Field(default_factory=TrainingConfig)
        schedule: Schedule = Field(default_factory=Schedule)

        def apply(self, model: Any, context: Any) -> Any:
            return model

    before = json.loads(Path(peftlab.__file__).with_name("schemas").joinpath("recipe.schema.json").read_text())
    monkeypatch.setattr(METHODS, "_classes", {**METHODS._classes, "nested": Nested})
    schema = recipe_schema()
    added = {name for name in schema["$defs"] if name not in before["$defs"]}
    assert added == {"method.nested", "TrainingConfig.method.nested", "Schedule"}
    assert all(schema["$defs"][name] == old for name, old in before["$defs"].items())
    own = schema["$defs"]["method.nested"]["properties"]
    assert own["training"]["$ref"] == "#/$defs/TrainingConfig.method.nested"
    assert schema["$defs"]["Schedule"]["properties"]["mine"]["default"] == 4
    assert define("x", Nested, {}) == {"$ref": "#/$defs/x"}


def test_a_regularizer_without_defaults_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Either(Regularizer):
        """One of two keys is needed."""

        registered_name = "either"
        one: int | None = None
        two: int | None = None

        @model_validator(mode="after")
        def _is_one(self) -> Either:
            if self.one is self.two is None:
                raise ValueError("write `one` or `two`")
            return self

    REGULARIZERS.names()
    monkeypatch.setattr(REGULARIZERS, "_classes", {**REGULARIZERS._classes, "either": Either})
    ls("regularizers", as_json=True)
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["regularizers"]}
    assert listed["either"]["passes_in_full_tuning"] == 1


def test_an_error_of_a_plugin_is_no_defect_of_peftlab(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "raises", "import json\n\n\ndef check():\n    json.loads('{')\n", "raises = raises")
    for ask, told in (
        (
            lambda: importlib.import_module("raises").check(),
            f"The plugin raises 1.0 has raised this, in {site.name}/raises.py:5.",
        ),
        (lambda: peftlab.METHODS.register("x").__call__(), "This is a defect of peftlab"),
    ):
        with pytest.raises(ValueError if "raises" in told else TypeError) as caught:
            ask()
        assert show_error(caught.value) == 1
        assert told in capsys.readouterr().err


PARTS = """
from peftlab.core.audit import Audit, Findings


class Fails(Audit):
    "Cannot look."

    title = "Fails"

    def run(self, audited):
        return {}["what"]


class FailsEarly(Fails):
    "Cannot say whether it can."

    def why_not(self, audited):
        return {}["why"]
"""


def test_a_part_of_another_package_costs_no_other_part_its_work(site: Path) -> None:
    class Looks(Audit):
        """Finds nothing."""

        title = "Looks"
        registered_name = "looks"

        def run(self, audited: Any) -> Findings:
            return Findings([])

    install(site, "failing_parts", PARTS, "fails = failing_parts:Fails", group="peftlab.audits")
    module = importlib.import_module("failing_parts")
    parts = [type("Named", (module.Fails,), {"registered_name": "fails", "__doc__": "A part."})(), Looks()]
    parts.append(type("Named", (module.FailsEarly,), {"registered_name": "early", "__doc__": "A part."})())
    audited: Any = type("Audited", (), {"reporter": Silent()})()
    assert texts_to_read(audited, parts) == 0
    found, skipped = run_parts(audited, parts)
    assert list(found) == ["looks"]
    told = "the plugin failing_parts 1.0 has raised KeyError: 'what', in "
    assert skipped["fails"] == f"{told}{site.name}/failing_parts.py:11"
    assert "KeyError: 'why'" in skipped["early"]
    own = type("Own", (Looks,), {"registered_name": "own", "__doc__": "A part.", "run": lambda *_: {}["what"]})()
    with pytest.raises(KeyError):  # a defect of peftlab's own is none of a plugin
        run_parts(audited, [own])


def test_a_part_needs_no_settings() -> None:
    with pytest.raises(ConfigError, match="the part Needs has no default for word"):

        class Needs(Audit):
            """Cannot do without a word."""

            title = "Needs"
            word: str

            def run(self, audited: Any) -> Findings:
                return Findings([])

    untitled = type("Untitled", (Audit,), {"run": lambda *_: Findings([]), "__module__": __name__})
    with pytest.raises(ConfigError, match="the audit `untitled` is not complete: Untitled does not define title"):
        AUDITS.register("untitled")(untitled)


def test_plugins_are_among_the_versions(site: Path) -> None:
    install(site, "some_plugin", "", "some = some_plugin")
    assert plugin_versions()["some_plugin"] == "1.0"
    assert package_versions()["some_plugin"] == "1.0"
    assert version_reader()()["some_plugin"] == "1.0"
    assert look_at_packages().values["plugins"] == {"some_plugin": "1.0"}
    made_with = {**package_versions(), "gone_plugin": "2.0", "bitsandbytes": None}
    assert missing_packages(made_with) == ["gone_plugin 2.0"]
    recipe = (
        "model: {path: x}\ntask: {type: text_classification}\ndata: {source: x.csv}\nmethod: {type: gone, size: 2}\n"
        "training: {regularizers: [{type: gone_too}]}\n"
    )
    run = site / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(recipe)
    for versions, told in (
        (
            made_with,
            "  The run was made with gone_plugin 2.0, which is not installed here: install what brings that name.",
        ),
        (package_versions(), "  Known: "),
    ):
        record = RunRecord(
            name="run",
            status="success",
            recipe={},
            environment={"versions": versions},
            started_at="2026-01-01T00:00:00+00:00",
            seconds=1.0,
        )
        write_record(record, run)
        with pytest.raises(UserError) as caught:
            read_run_recipe(run)
        first, second, *_ = str(caught.value).splitlines()
        assert first == f"{run / 'recipe.yaml'}:4: method.type: unknown method `gone`"
        assert second.startswith(told)
