"""Messages to the world: at least once. One that fails stays in the outbox and is tried again, later and later."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import or_, select, update

from peftlab.applications.monitor.rows import storable
from peftlab.applications.monitor.settings import Destinations, Mail, Webhook
from peftlab.applications.monitor.store import Store
from peftlab.applications.monitor.tables import OUTBOX
from peftlab.assembly.database import StorageError

LEASE = 120.0
"""Seconds for which a message belongs to the process that sends it; renewed as long as the attempt goes on."""
MAIL_PAUSE, LONGEST_MAIL = 30.0, 600.0
"""Seconds without a word of the server, and for a mail as a whole: a server may look long at what it takes."""
MESSAGES_A_TURN = 20
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3600.0
MOST_DOUBLED = 10
"""From then on a pause is the longest one; of thousands of tries a power of two is no number of a clock's any more."""
SIGNATURE = "X-Peftlab-Signature"
DELIVERY = "X-Peftlab-Delivery"


class DeliveryError(Exception):
    """A message was not taken."""


def _never() -> bool:
    return False


def deliver(
    store: Store, send: Destinations, now: Callable[[], float] = time.time, is_told_to_stop: Callable[[], bool] = _never
) -> int:
    """Send what is due.

    Args:
        store: Of the messages.
        send: Where they go.
        now: Tells the time.
        is_told_to_stop: Is asked before each message.

    Returns:
        How many messages were taken.
    """
    senders: dict[str, Callable[[int, str], str | None]] = {}
    if send.webhook is not None:
        webhook = send.webhook
        senders["webhook"] = lambda number, body: post(webhook, number, body)
    if send.mail is not None:
        mail = send.mail
        senders["mail"] = lambda number, body: send_mail(mail, number, body)
    taken = 0
    for _ in range(MESSAGES_A_TURN):
        row = None if is_told_to_stop() else _claimed(store, list(senders), now())
        if row is None:
            break
        error, is_taken = None, False
        try:
            with _held(store, row.id, now):
                error = senders[row.channel](row.id, row.body)
            is_taken = True
            taken += 1
        except (DeliveryError, OSError, ValueError, http.client.HTTPException, smtplib.SMTPException) as found:
            # ValueError: an address that cannot be, such as one with the port 99999.
            error = storable(str(found))[:500] or type(found).__name__
        pause = min(FIRST_PAUSE * 2 ** min(row.tries, MOST_DOUBLED), LONGEST_PAUSE)
        values: dict[str, Any] = {"tries": row.tries + 1, "error": error}
        values |= {"sent": now()} if is_taken else {"due": now() + pause}
        with store.transaction() as connection:
            connection.execute(update(OUTBOX).where(OUTBOX.c.id == row.id).values(**values))
    return taken


def sign(secret: str, moment: int, body: str) -> str:
    """The signature's header: the time, and HMAC-SHA256 of ``<time>.<body>``."""
    code = hmac.new(secret.encode(), f"{moment}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={moment},v1={code}"


def post(webhook: Webhook, number: int, body: str) -> None:
    """One attempt; redirects are not followed.

    Raises:
        DeliveryError: The answer is not one of 200 to 299 or does not come in time, or the secret is not set.
    """
    secret = os.environ.get(webhook.secret_variable, "")
    if not secret:
        raise DeliveryError(f"the environment variable {webhook.secret_variable} holds no secret to sign with")
    parts = urlsplit(webhook.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=webhook.timeout_seconds)
    headers = {
        "Content-Type": "application/json",
        SIGNATURE: sign(secret, int(time.time()), body),
        DELIVERY: str(number),
    }
    try:
        connection.connect()
        with _at_most(webhook.timeout_seconds, lambda: connection.sock):
            connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
            status = connection.getresponse().status
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise DeliveryError(f"the webhook answered {status}")


def send_mail(mail: Mail, number: int, body: str) -> str | None:
    """One attempt.

    Returns:
        Who does not get it, and why, where the server has taken it for others; None: all get it.

    Raises:
        DeliveryError: It takes too long.
        SMTPException: The server refused.
    """
    alarm = json.loads(body)
    message = EmailMessage()
    message["Subject"] = " ".join(f"[{alarm['kind']}] {alarm['sentence']}".split())[:150]
    message["From"], message["To"] = mail.sender, ", ".join(mail.to)
    message["Message-ID"] = f"<peftlab-{number}@{mail.host}>"
    shown = "\n".join(f"- {' '.join(text['text'].split())}" for text in alarm["texts"])
    message.set_content(f"{alarm['sentence']}\n\n{shown}\n\nPage: {alarm['page']}\n")
    with (
        smtplib.SMTP(mail.host, mail.port, timeout=MAIL_PAUSE) as server,
        _at_most(LONGEST_MAIL, lambda: server.sock),
    ):
        if mail.start_tls:
            server.starttls(context=ssl.create_default_context())
        if mail.user is not None:
            server.login(mail.user, os.environ.get(mail.password_variable, ""))
        refused = server.send_message(message)
    # Sent again, it would come twice to the others.
    told = (f"not to {who}: {code} {why.decode(errors='replace')}" for who, (code, why) in refused.items())
    return storable("; ".join(told))[:500] or None


@contextlib.contextmanager
def _at_most(seconds: float, link: Callable[[], socket.socket | None]) -> Iterator[None]:
    """Break a connection off after so long. Its own limit is for each piece, and a server may send one after the other.

    Raises:
        DeliveryError: It was broken off.
    """
    is_over = threading.Event()
    told = f"the server has not answered within {seconds:g} seconds"

    def break_off() -> None:
        is_over.set()
        found = link()
        if found is not None:
            with contextlib.suppress(OSError):
                # Below TLS, which a thread must not end while another one reads.
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, break_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if is_over.is_set():  # by this, and not by the server
            raise DeliveryError(told) from error
        raise
    finally:
        timer.cancel()
    if is_over.is_set():  # what was read may look like an answer that has ended
        raise DeliveryError(told)


@contextlib.contextmanager
def _held(store: Store, number: int, now: Callable[[], float]) -> Iterator[None]:
    """Renew a message's lease, however long the attempt takes: no other process sends it meanwhile."""
    is_over = threading.Event()

    def renew() -> None:
        mine = update(OUTBOX).where(OUTBOX.c.id == number, OUTBOX.c.sent.is_(None))
        while not is_over.wait(LEASE / 4):
            with contextlib.suppress(StorageError), store.transaction() as connection:
                connection.execute(mine.values(due=now() + LEASE))

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _claimed(store: Store, channels: list[str], now: float) -> Any:
    """The message that has been due the longest, new ones first; until its lease ends no other process takes it.

    One that is due later than any pause would have it was put off by a clock that has been set back since: it is due.

    Returns:
        Its row; None where none is due, or another process was faster.
    """
    is_due = or_(OUTBOX.c.due <= now, OUTBOX.c.due > now + 2 * LONGEST_PAUSE)
    query = select(OUTBOX).where(OUTBOX.c.sent.is_(None), is_due, OUTBOX.c.channel.in_(channels))
    with store.transaction() as connection:
        row = connection.execute(query.order_by(OUTBOX.c.due, OUTBOX.c.id).limit(1)).first()
        if row is None:
            return None
        mine = update(OUTBOX).where(OUTBOX.c.id == row.id, OUTBOX.c.due == row.due, OUTBOX.c.sent.is_(None))
        return row if connection.execute(mine.values(due=now + LEASE)).rowcount else None
