"""Start the service: load, bind, answer until told to stop, finish what was accepted."""

from __future__ import annotations

from pathlib import Path

import torch

from peftlab.core.address import answer, bind, check_address, url_of
from peftlab.core.reporter import Reporter
from peftlab.serving.app import build_app
from peftlab.serving.host import Host
from peftlab.serving.service import Service
from peftlab.serving.serving_config import ServingConfig
from peftlab.serving.telemetry import Telemetry


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
        host = Host(offline=offline, threads=threads, device=device, report=reporter.say)
        for name, folder in runs.items():
            reporter.say(f"loading {folder} as {name}")
            host.add(name, folder)
        service = Service(host, config, Telemetry())
        reporter.say(f"serving on {url_of(address, bound)} (interactive documentation: /docs)")
        answer(build_app(service), bound, grace_seconds=int(config.limits.request_timeout_seconds) + 5)
    finally:
        bound.close()
