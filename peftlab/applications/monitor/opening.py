"""The store and the watcher of a built monitor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from peftlab.applications.monitor.building import HISTORY_NAME
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.watcher import Watcher, seed_history
from peftlab.core.application import Hosting, Workplace

if TYPE_CHECKING:
    from peftlab.applications.monitor.application import Monitor


def open_store(place: Workplace, hosting: Hosting) -> Store:
    """The store; a new one begins with the hours that ``app build`` has counted.

    Raises:
        UserError: The database cannot be used.
    """
    store = Store(hosting.database)
    known = json.loads((place.folder / HISTORY_NAME).read_text(encoding="utf-8"))
    seed_history(store, [tuple(row) for row in known["hours"]], known["until"])
    return store


def open_watcher(monitor: Monitor, place: Workplace, store: Store) -> Watcher:
    """The watcher of a store."""
    known = json.loads((place.folder / HISTORY_NAME).read_text(encoding="utf-8"))
    return Watcher(store, monitor.watch, monitor.send, known["topics"], monitor.seed)
