"""What plugins of all kinds must keep: each is announced, described, read back as written, and cheap to import."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar

from pydantic import ValidationError

from peftlab.core.config import RegisteredConfig
from peftlab.core.errors import UserError
from peftlab.core.plugins import OWN
from peftlab.core.registry import Registry
from peftlab.testing.broken_contract import BrokenContractError, require

Section = Mapping[str, Any]
"""A plugin as a recipe writes it: ``{"type": "lora", "rank": 4}``."""
HEAVY = ("torch", "transformers", "peft", "datasets", "sklearn")
PROBE = "import importlib, json, sys\nfor name in json.load(sys.stdin):\n    importlib.import_module(name)\n"
PROBE += f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"


class PluginContract:
    """The tests that plugins of all kinds share.

    A parameter of a test that is called as one of ``parameters`` is each of its values in turn.
    """

    plugin: ClassVar[Section] = {}
    """The plugin as a recipe writes it, ``{"type": "my_method", "rank": 4}``."""
    announced: ClassVar[bool] = True
    """Whether an installed package has it as an entry point. False: for a class of a script or a notebook."""
    registry: ClassVar[Registry[Any]]
    """Where it is looked up."""
    shared: ClassVar[Collection[str]] = ()
    """Parameters of whose values the tests share something."""

    def sections(self) -> Sequence[Section]:
        """The plugins to be tested."""
        return [self.plugin]

    def parameters(self) -> Mapping[str, Sequence[Any]]:
        """The values of each parameter that tests may have."""
        return {"section": self.sections()}

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Called by pytest for each test of the class."""
        for name, values in self.parameters().items():
            if name in metafunc.fixturenames:
                # Tests of one value come one after the other, and can share what they make.
                scope = "class" if name in self.shared else "function"
                metafunc.parametrize(name, values, ids=[told(value) for value in values], scope=scope)

    def build(self, section: Section) -> Any:
        """The plugin of a section, made anew: what another one remembers, it does not.

        Raises:
            BrokenContractError: There is none of this name, or it does not take such keys.
        """
        return build_plugin(self.registry, section)

    def test_it_is_announced(self, section: Section) -> None:
        """A package names it in its ``pyproject.toml``, so that peftlab finds it where nobody has imported it."""
        plugin = self.build(section)
        module, group = type(plugin).__module__, self.registry.entry_point_group
        root = module.partition(".")[0]
        if root == OWN or not self.announced:
            return
        groups = (group, *self.registry.also_from)
        found = [each for name in groups for each in entry_points(group=name)]
        require(
            any(each.module.partition(".")[0] == root for each in found),
            f"no installed package announces `{plugin.registered_name}`: here something has imported {module}, and "
            "`peftlab run` does not know it",
            hint=f'Write {plugin.registered_name} = "{module}" under [project.entry-points."{group}"] in '
            "pyproject.toml, and run pip install -e . again. For a class that is in no package: announced = False.",
        )

    def test_it_is_described(self, section: Section) -> None:
        """`peftlab ls` and the JSON schema have a sentence for it and for each key."""
        plugin = self.build(section)
        cls, name = type(plugin), plugin.registered_name
        require(
            "__doc__" in vars(cls) and (cls.__doc__ or "").strip(),
            f"`{name}` has no docstring",
            hint="Its first line is what `peftlab ls` shows.",
        )
        for key, field in getattr(cls, "model_fields", {}).items():
            require(
                field.description,
                f"the key `{key}` of `{name}` is not described",
                hint='Write Field(…, description="…"): `peftlab schema` and editors show it.',
            )
        paper = getattr(cls, "paper", "")
        require(
            not paper or paper.startswith("https://"),
            f"`{name}` has paper = {paper!r}, which is no link",
            hint="A link begins with https://. Leave it out where there is none.",
        )

    def test_its_keys_are_written_and_read_back(self, section: Section) -> None:
        """A run writes its recipe, and `reproduce` reads it; a key that is none is refused."""
        plugin = self.build(section)
        if not isinstance(plugin, RegisteredConfig):
            return  # such as a metric, which has no keys
        written = json.loads(json.dumps(plugin.model_dump(mode="json")))
        require(written["type"] == section["type"], f"`{section['type']}` is written as type: {written['type']}")
        try:
            again = type(plugin).model_validate(written)
        except ValidationError as error:
            raise BrokenContractError(
                f"`{section['type']}` cannot be read back as it was written, {written}: {_first(error)}",
                hint="A validator must take what the class itself writes.",
            ) from None
        different = [key for key in type(plugin).model_fields if getattr(again, key) != getattr(plugin, key)]
        require(
            not different,
            f"`{section['type']}` is read back with another {', '.join(different)} than was written",
            hint="A run that is reproduced would be another one. Validators must leave alone what they gave.",
        )
        try:
            type(plugin).model_validate({**written, "no_such_key": 1})
        except ValidationError:
            return
        raise BrokenContractError(
            f"`{section['type']}` takes a key that it does not have: one that is misspelt would do nothing, in silence",
            hint='Leave `extra` out of model_config: peftlab\'s own is "forbid".',
        )

    def test_it_is_cheap_to_import(self) -> None:
        """`peftlab --help`, `ls` and `validate` import every plugin: without torch they take a moment."""
        modules = sorted({type(self.build(section)).__module__ for section in self.sections()})
        modules = [name for name in modules if name.partition(".")[0] != OWN]  # `ls` of each kind is tested as a whole
        if not modules:
            return
        done = subprocess.run(
            [sys.executable, "-c", PROBE], input=json.dumps(modules), capture_output=True, text=True, check=False
        )
        if done.returncode != 0 and "No module named" in done.stderr and not self.announced:
            return  # a class of the test itself, which another process cannot import
        require(done.returncode == 0, f"{', '.join(modules)} cannot be imported alone: {_last_line(done.stderr)}")
        heavy = json.loads(done.stdout.splitlines()[-1])
        require(
            not heavy,
            f"to import {', '.join(modules)} imports {', '.join(heavy)}, which takes seconds",
            hint="Import them inside the functions that need them, and under `if TYPE_CHECKING:` for annotations.",
        )


def build_plugin(registry: Registry[Any], section: Section) -> Any:
    """The plugin of a section.

    Raises:
        BrokenContractError: There is none of this name, or it does not take such keys.
    """
    __tracebackhide__ = True
    found = class_of(registry, section)
    try:
        return found.model_validate(dict(section))
    except ValidationError as error:
        raise BrokenContractError(f"{dict(section)} is refused: {_first(error)}") from None


def class_of(registry: Registry[Any], section: Section) -> Any:
    """The class that a section names.

    Raises:
        BrokenContractError: There is none of this name.
    """
    __tracebackhide__ = True
    if "type" not in section:
        raise BrokenContractError(
            f"the class of the tests does not say which {registry.kind} they are of",
            hint='Write plugin = {"type": "…"} into it, as in a recipe\'s section, with keys that fit a tiny model.',
        )
    try:
        return registry.get(section["type"])
    except UserError as error:
        raise BrokenContractError(
            str(error),
            hint=f'Is it in [project.entry-points."{registry.entry_point_group}"] of an installed package? '
            "`peftlab ls` says what could not be loaded.",
        ) from None


def told(value: Any) -> str:
    """A parameter's value in a test's name."""
    return str(value.get("type", "unnamed")) if isinstance(value, Mapping) else str(value)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


def _last_line(text: str) -> str:
    return next(filter(None, reversed(text.strip().splitlines())), "")
