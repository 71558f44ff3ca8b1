"""Free ports of the loopback for servers that bind them later, by themselves."""

from __future__ import annotations

import random
import socket

BELOW_THOSE_OF_THE_SYSTEM = range(20_000, 30_000)
"""Whoever asks the system for any port, as other tests do meanwhile, is given none of these."""


def free_port() -> int:
    """A port that nobody listens on, and that nobody is given by chance before the server is up."""
    while True:
        port = random.SystemRandom().choice(BELOW_THOSE_OF_THE_SYSTEM)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
