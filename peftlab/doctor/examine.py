"""All that is looked at, side by side where it takes long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from peftlab.doctor import machine, network, trials
from peftlab.doctor.finding import Finding


def examine(*, offline: bool) -> list[Finding]:
    """Look at everything.

    Args:
        offline: Ask nothing of the network.

    Returns:
        What was found, in the order in which a person would ask.
    """
    cores = machine.look_at_cores()  # before the trials take some
    with ThreadPoolExecutor() as pool:
        hub = pool.submit(network.look_at_hub, offline=offline)
        pip = pool.submit(network.look_at_pip, offline=offline)
        torch, bitsandbytes, training = (
            pool.submit(trials.run_trial, name) for name in ("torch", "bitsandbytes", "training")
        )
        return [
            machine.look_at_python(),
            machine.look_at_packages(),
            trials.look_at_torch(torch.result()),
            cores,
            machine.look_at_memory(),
            machine.look_at_disk(),
            machine.look_at_cache(),
            trials.look_at_bitsandbytes(bitsandbytes.result()),
            trials.look_at_training(training.result()),
            hub.result(),
            pip.result(),
        ]
