"""The contract of an application: a few tuned models at work together.

An application's recipe names its ``type`` and its parts. ``peftlab app build`` tunes the parts that are missing and
leaves a folder that can be moved; ``evaluate`` scores the whole and each part; ``serve`` answers people and programs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from peftlab.core.audit import Findings
from peftlab.core.config import Config, RegisteredConfig
from peftlab.core.errors import UserError
from peftlab.core.folder_name import FolderName
from peftlab.core.registry import Registry
from peftlab.core.reporter import Reporter, Silent
from peftlab.core.seed import Seed

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from peftlab.recipe.schema import Recipe


class Part(Config):
    """One tuned model of an application: a recipe that ``app build`` runs, or a run that is there already."""

    recipe: str | None = Field(
        default=None, description="A recipe, tuned by `app build`. Starts at this file, or its name."
    )
    set: dict[str, Any] = Field(default_factory=dict, description="Overrides of the recipe: training.epochs: 3.")
    run: str | None = Field(default=None, description="A finished run, used as it is. Starts at this file.")

    @model_validator(mode="after")
    def _is_one(self) -> Part:
        if (self.recipe is None) == (self.run is None):
            raise ValueError("a part has either the key `recipe` or the key `run`")
        if self.run is not None and self.set:
            raise ValueError("`set` changes a recipe; a finished run stays as it is")
        return self


@dataclass(frozen=True)
class Workplace:
    """Where an application is built, evaluated and served.

    Args:
        folder: Of the application. Whatever it needs later lies in it; files are written atomically
            (:mod:`peftlab.core.files`).
        runs: Of each part, by the key of the recipe: the folder of a finished run.
        sources: Relative addresses of the recipe start here; only ``build`` reads them.
        reporter: Is told what goes on.
        offline: Use no network.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    folder: Path
    runs: Mapping[str, Path]
    sources: Path = Path()
    reporter: Reporter = field(default_factory=Silent)
    offline: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Hosting:
    """How an application is served.

    Args:
        database: SQLAlchemy's address of the database; ``sqlite`` in the application's folder by default.
        token: That every visitor brings; None: nobody is asked, and only this machine is answered.
        only_loopback: Answer only to the names of this machine.
    """

    database: str
    token: str | None = None
    only_loopback: bool = True


class Application(RegisteredConfig, ABC):
    """An application. The docstring's first line is what ``peftlab ls applications`` shows.

    Its fields are the keys of its recipe; those of the class :class:`Part` are its parts. Building goes on where it
    was interrupted, so ``build`` is called again for work that is done, and does nothing twice that takes long.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    needs_packages: ClassVar[Mapping[str, str]] = {}
    """Packages that it needs, and the extra that brings each: ``{"implicit": "recommend"}``."""
    computes_at_once: ClassVar[int] = 1
    """How many computations a service of it runs side by side; each has its part of the cores."""

    name: FolderName = Field("", description="Name of the folder; by default the file's.")
    seed: Seed = Field(0, description="Of all that is drawn at random, except within the parts' recipes.")

    def parts(self) -> dict[str, Part]:
        """The parts, by key; those that are left out are not among them."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in found.items() if isinstance(value, Part)}

    @abstractmethod
    def check(self, place: Workplace) -> None:
        """Look at all inputs before anything is tuned; ``place.runs`` is empty.

        Raises:
            UserError: A table lacks a column, has a side missing, …: with file and row.
        """

    def check_recipes(self, recipes: Mapping[str, Recipe]) -> None:
        """See that the parts will fit each other, before any is tuned.

        Args:
            recipes: Of all parts, by key; of a run that was given, its own.

        Raises:
            UserError: They will not.
        """

    def prepare(self, place: Workplace) -> Mapping[str, Mapping[str, Any]]:
        """Make the tables that parts learn from, before any is tuned; called again whenever building goes on.

        The same inputs must give the same files: a part that was interrupted goes on with them.

        Returns:
            For parts, by key, the keys of their recipes that the application sets, such as ``data.source``. What the
            part's ``set`` says comes after them.
        """
        return {}

    @abstractmethod
    def build(self, place: Workplace) -> None:
        """Make what the parts do not have: indexes, thresholds, tables of held-out data. All parts are tuned.

        Raises:
            UserError: The parts do not fit each other.
        """

    @abstractmethod
    def evaluate(self, place: Workplace) -> Findings:
        """Score the whole system on held-out data, and each part alone.

        Returns:
            Figures named ``system.<what>`` and ``<part>.<what>``, each with n and an interval.
        """

    @abstractmethod
    def open_app(self, place: Workplace, hosting: Hosting) -> ASGIApp:
        """The service: page, API with OpenAPI, ``/healthz`` and ``/metrics``."""

    def feed(self, place: Workplace, hosting: Hosting, sources: Sequence[str]) -> Mapping[str, int]:
        """Take rows in from files, ``-`` for standard input, or addresses; only some applications do.

        Returns:
            How many of what, for people.

        Raises:
            UserError: It takes none, or a source cannot be read.
        """
        raise UserError(f"{self.registered_name} takes nothing in by `app feed`", where=place.folder.name)


APPLICATIONS: Registry[Application] = Registry(
    "application", package="peftlab.applications", entry_point_group="peftlab.applications", base=Application
)
