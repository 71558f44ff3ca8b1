"""Start the service: load, bind, answer until told to stop, finish what was accepted."""

from __future__ import annotations

import ipaddress
import signal
import socket
from pathlib import Path

import torch
import uvicorn

from peftlab.core.errors import UserError
from peftlab.core.reporter import Reporter
from peftlab.serving.app import build_app
from peftlab.serving.host import Host
from peftlab.serving.service import Service
from peftlab.serving.serving_config import ServingConfig
from peftlab.serving.telemetry import Telemetry

BACKLOG = 1024


def serve(
    runs: dict[str, Path],
    config: ServingConfig,
    *,
    address: str,
    port: int,
    offline: bool,
    reporter: Reporter,
    device: torch.device | None = None,
) -> None:
    """Serve runs and exports until SIGINT or SIGTERM.

    Args:
        runs: Folders by the name of their adapter.
        config: Limits, token, and where adapters may come from.
        address: To bind to.
        port: To bind to; 0: one that is free.
        offline: Allow no network.
        reporter: Is told what is loaded, and where the service answers.
        device: Where models compute; None: CUDA where it is there.

    Raises:
        UserError: A run cannot be served, the port is in use, or the address is open to others without a token.
    """
    check_address(address, config.token)
    bound = bind(address, port)
    try:
        threads = max(1, torch.get_num_threads() // config.batching.workers)
        host = Host(offline=offline, threads=threads, device=device)
        for name, folder in runs.items():
            reporter.say(f"loading {folder} as {name}")
            host.add(name, folder)
        service = Service(host, config, Telemetry())
        shown = f"[{address}]" if ":" in address else address
        reporter.say(f"serving on http://{shown}:{bound.getsockname()[1]} (interactive documentation: /docs)")
        settings = uvicorn.Config(
            build_app(service),
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=int(config.limits.request_timeout_seconds) + 5,
        )
        for wanted in (signal.SIGINT, signal.SIGTERM):
            # Once it has shut down, uvicorn raises the signal again: an orderly end is no failure.
            signal.signal(wanted, lambda *_: None)
        uvicorn.Server(settings).run(sockets=[bound])
    finally:
        bound.close()


def check_address(address: str, token: str | None) -> None:
    """Refuse to answer anybody from anywhere.

    Raises:
        UserError: The address is not the loopback's, and there is no token.
    """
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = address == "localhost"
    if not is_loopback and token is None:
        raise UserError(
            f"{address} can be reached from other machines, and there is no token",
            where="--host",
            hint="Put a token into the variable PEFTLAB_TOKEN, or leave --host at 127.0.0.1.",
        )


def bind(address: str, port: int) -> socket.socket:
    """A socket that listens; before anything is loaded, so that a port in use is told at once.

    Raises:
        UserError: The port is in use, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where it is told that this is TCP; else small answers wait for 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise UserError(
            f"cannot listen on {address}, port {port}: {error.strerror}", where="--port", hint="Choose another --port."
        ) from None
    bound.listen(BACKLOG)
    return bound
