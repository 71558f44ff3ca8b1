"""What processes of one run tell each other: pickles, which only one of them may have written.

They meet at ports, and other users of a machine reach those too. A pickle is a program, so it is loaded only if it
bears the seal of a key that ``peftlab run --processes`` hands to its own processes. Processes that another launcher has
started have no key but what their user sets, in the variable :data:`KEY` of all machines; without one they trust
whoever reaches their ports, as those of torch.distributed do.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle
from typing import Any

from peftlab.core.errors import RunFailedError

KEY = "PEFTLAB_PROCESSES_KEY"
"""The variable that holds the key."""
SEAL_BYTES = hashlib.sha256().digest_size


def seal(value: Any) -> bytes:
    """A value as bytes, with the seal before them."""
    data = pickle.dumps(value)
    return _seal_of(data) + data


def unseal(sealed: bytes) -> Any:
    """The value.

    Raises:
        RunFailedError: No process with the same key has sealed it.
    """
    given, data = sealed[:SEAL_BYTES], sealed[SEAL_BYTES:]
    if not hmac.compare_digest(given, _seal_of(data)):
        raise RunFailedError(
            "a message does not come from a process of this run",
            hint=f"Give all processes the same {KEY}, or none. If they have it, another program writes to their ports.",
        )
    return pickle.loads(data)  # noqa: S301 - sealed by a process of this run


def _seal_of(data: bytes) -> bytes:
    return hmac.digest(os.environ.get(KEY, "").encode(), data, "sha256")
