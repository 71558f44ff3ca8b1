"""The database of an application: SQLite in its folder, or PostgreSQL by an address.

What was committed survives ``kill -9`` and a loss of power: SQLite writes ahead and waits for the disk.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from peftlab.core.errors import PeftlabError, UserError

GREATEST_NUMBER = 2**63 - 1
"""That a database can be asked for; what a stranger asks for may be greater."""
LONGEST_WAIT = 10
"""Seconds that a process waits for another one that writes to the same SQLite file."""
PREPARING = 0x70656674
"""Of the lock that a process holds on PostgreSQL while it makes tables."""


class StorageError(PeftlabError):
    """The database could not take or give something, such as on a full disk. Nothing was half-written."""


class Database:
    """The tables of one application.

    Args:
        url: SQLAlchemy's address.
        metadata: The application's tables.
        owner: The application's type; a database of another one is refused.
        version: Of the tables' layout.

    Raises:
        UserError: It cannot be opened, or is another application's or version's.
    """

    def __init__(self, url: str, metadata: MetaData, *, owner: str, version: int) -> None:
        self.engine = _open(url)
        self._shown = sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
        try:
            with self.engine.begin() as connection:
                _wait_for_others(connection)
                self._check_owner(connection, owner, version)
                metadata.create_all(connection)
        except DBAPIError as error:
            raise UserError(f"the database cannot be used: {error.orig}", where=self._shown) from None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection whose changes are kept all together, once the block ends without an error.

        Raises:
            StorageError: The database refused; nothing was kept.
            UserError: It cannot hold a value, such as a text with the character NUL in PostgreSQL.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except DataError as error:
            raise UserError(f"the database cannot hold this: {error.orig}", where=self._shown) from error
        except OperationalError as error:
            raise StorageError(f"the database refused: {error.orig}", where=self._shown) from error
        except PoolTimeoutError as error:  # as on a disk that stands still: all connections are taken
            raise StorageError("the database has not answered in time", where=self._shown) from error

    def _check_owner(self, connection: Connection, owner: str, version: int) -> None:
        metadata = MetaData()
        table = Table(
            "peftlab",
            metadata,
            Column("owner", String(64), primary_key=True),
            Column("version", Integer, nullable=False),
        )
        metadata.create_all(connection)
        found = connection.execute(sqlalchemy.select(table)).first()
        if found is None:
            connection.execute(table.insert().values(owner=owner, version=version))
            return
        if (found.owner, found.version) != (owner, version):
            raise UserError(
                f"the database holds {found.owner}, version {found.version}; needed: {owner}, version {version}",
                where=self._shown,
                hint="Name another --database; this one was left as it is.",
            )


def _wait_for_others(connection: Connection) -> None:
    """Let one process at a time look for tables and make those that are not there: several may start at once."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(PREPARING)))


def _open(url: str) -> Engine:
    try:
        engine = sqlalchemy.create_engine(url, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise UserError(
            f"this is no address of a database, or its driver is missing: {error}",
            where="--database",
            hint="As in sqlite:////srv/app.db or postgresql+psycopg://user:password@host/name.",
        ) from None
    if engine.dialect.name == "sqlite":
        _make_private(engine.url.database)
        sqlalchemy.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _make_private(file: str | None) -> None:
    """Make a new file that nobody else on this machine reads: it holds what customers and strangers have written.

    SQLite gives the files that it puts beside it the same rights. A file that is there keeps its own.
    """
    if not file or file == ":memory:" or file.startswith("file:"):
        return
    with contextlib.suppress(OSError):  # it is there; or nothing can be written, which SQLite tells
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={1000 * LONGEST_WAIT}")
    _write_ahead(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Switch a new file to writing ahead. SQLite itself does not wait here while another process does the same."""
    import sqlite3

    until = time.monotonic() + LONGEST_WAIT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return
