"""Serve a built application until it is told to stop."""

from __future__ import annotations

from peftlab.core.address import answer, bind, check_address, is_loopback, url_of
from peftlab.core.application import Application, Hosting, Workplace
from peftlab.core.errors import PluginError
from peftlab.core.threads import share_threads

DATABASE_NAME = "application.db"


def serve_application(
    application: Application, place: Workplace, *, address: str, port: int, token: str | None, database: str | None
) -> None:
    """Answer until SIGINT or SIGTERM.

    Args:
        application: Built.
        place: Where.
        address: To bind to.
        port: To bind to; 0: one that is free.
        token: That visitors bring; needed where the address is not the loopback's.
        database: SQLAlchemy's address; None: a file of SQLite in the application's folder.

    Raises:
        UserError: The port is in use, the database cannot be opened, or the address is open without a token.
    """
    check_address(address, token)
    bound = bind(address, port)
    try:
        hosting = Hosting(database_of(place, database), token=token, only_loopback=is_loopback(address))
        share_threads(application.computes_at_once)
        app = application.open_app(place, hosting)
        if not callable(app):
            raise PluginError(
                f"open_app of {application.registered_name} has given {app!r}, and no service",
                hint="Return what peftlab.assembly.site.build_site gives.",
            )
        place.reporter.say(f"{application.name} is at {url_of(address, bound)} (Ctrl-C ends it)")
        answer(app, bound, grace_seconds=5)
    finally:
        bound.close()


def database_of(place: Workplace, given: str | None) -> str:
    """SQLAlchemy's address of an application's database; None: the file of SQLite in its folder."""
    return given or f"sqlite:///{(place.folder / DATABASE_NAME).resolve()}"
