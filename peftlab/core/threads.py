"""How many threads compute, and how they wait for each other.

Threads share a product of matrices and meet at its end. Where a core is taken by another program, the meeting waits for
it, and a thread that spins meanwhile takes away the very time that the late one needs. Measured on two cores (twelve
training steps of MiniLM's shape, libgomp): alone 3.2 s with two threads and 5.2 s with one; beside other programs
25 to 83 s with two threads, and 5 to 10 s with one. Hence two rules:

- As many threads as there are free cores: what this process may use (affinity, a container's quota), less what others
  use while peftlab starts.
- A thread spins for a fraction of a millisecond, then sleeps. With ``GOMP_SPINCOUNT=5000`` two threads take 3.2 to
  3.3 s alone and 13.5 s beside others; ``OMP_WAIT_POLICY=passive`` takes 3.8 s alone and 5 to 11 s beside others.

What the user says, in ``--threads`` or ``OMP_NUM_THREADS``, comes first.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

WAITING = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
"""For GNU's OpenMP and for Intel's and LLVM's; neither reads the other's."""
WAITING_VARIABLES = ("OMP_WAIT_POLICY", *WAITING)
COUNT_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
ROOTS = (Path("/proc"), Path("/sys/fs/cgroup"))
ASKED = "as asked"
SHORTEST = 0.2
"""Seconds that other programs are watched at least."""


@dataclass(frozen=True)
class Threads:
    """How many threads compute, why so many, and whether others leave fewer than torch would take."""

    count: int
    reason: str
    is_reduced: bool = False


@dataclass(frozen=True)
class _Moment:
    """What the processors had done by a moment, in seconds."""

    at: float
    idle: float | None
    own: float
    group: float | None


class Watch:
    """Looks at what other programs use of the processors, from its making to the question.

    Args:
        roots: ``/proc`` and ``/sys/fs/cgroup``.
    """

    def __init__(self, roots: tuple[Path, Path] = ROOTS) -> None:
        self._proc, self._cgroups = roots
        self._cpus = _own_cpus()
        self._start = self._now()

    def free_cores(self) -> tuple[float, str]:
        """How many cores are free, counting those that this process uses itself, and what says so."""
        time.sleep(max(0.0, self._start.at + SHORTEST - time.monotonic()))
        now, start = self._now(), self._start
        seconds = now.at - start.at
        own = (now.own - start.own) / seconds
        cores = float(len(self._cpus))
        said = f"{len(self._cpus)} core{'s' if len(self._cpus) > 1 else ''} of this process"
        if now.idle is not None and start.idle is not None:
            idle = (now.idle - start.idle) / seconds
        else:
            idle = cores - _load() - own
        free = min(cores, max(0.0, idle) + own)
        quota = min(_quotas(self._proc, self._cgroups), default=None)
        if quota is not None and quota < cores:
            said += f", a quota of {quota:.3g}"
            others = 0.0
            if now.group is not None and start.group is not None:
                others = max(0.0, (now.group - start.group) / seconds - own)
            free = min(free, quota - others)
        return free, f"{said}; others leave {free:.1f} free"

    def _now(self) -> _Moment:
        times = os.times()
        idle = _idle_seconds(self._proc / "stat", self._cpus)
        own = times.user + times.system + times.children_user + times.children_system
        return _Moment(time.monotonic(), idle, own, _group_seconds(self._proc, self._cgroups))


_watch: Watch | None = None
_chosen: Threads | None = None
_most: int | None = None
"""What torch itself would take, before anything was chosen."""


def begin() -> None:
    """Set how threads wait, and begin to watch the others. OpenMP reads its settings once: before torch is imported."""
    global _watch
    if not any(name in os.environ for name in WAITING_VARIABLES):
        os.environ.update(WAITING)
    _watch = Watch()


def use_threads(asked: int | None = None) -> Threads:
    """Choose how many threads torch computes with, and tell it.

    Args:
        asked: By the user; None: as many as there are free cores, or what the user's environment says.
    """
    import torch

    global _chosen, _most
    if _most is None:
        _most = torch.get_num_threads()
    most = _most
    if asked is not None:
        chosen = Threads(asked, ASKED)
    elif name := next((name for name in COUNT_VARIABLES if name in os.environ), None):
        chosen = Threads(most, f"by {name}")
    else:
        free, reason = (_watch or Watch()).free_cores()
        # Half of a core is better than none; more threads than torch itself would take share the units of one core.
        count = min(most, max(1, math.floor(free + 0.5)))
        chosen = Threads(count, reason, is_reduced=count < most)
    torch.set_num_threads(chosen.count)
    _chosen = chosen
    return chosen


def is_set_by_user() -> bool:
    """Whether the user has said how many threads compute."""
    return _chosen is not None and _chosen.reason == ASKED


def share_threads(at_once: int) -> None:
    """Let several computations run side by side, each with its part of the threads, unless the user has said how many.

    Threads that share one short text mostly wait for each other, and more threads than cores do so for long.

    Args:
        at_once: How many computations.
    """
    import threadpoolctl
    import torch

    if is_set_by_user() or any(name in os.environ for name in COUNT_VARIABLES):
        return
    count = max(1, torch.get_num_threads() // at_once)
    keep_threads(count, f"a part of the cores for each of {at_once} that compute at once")
    threadpoolctl.threadpool_limits(count)  # numpy's products, too


def join_threads() -> None:
    """To be called in a thread that was started later: its first products would be computed on all cores else."""
    import torch

    torch.set_num_threads(torch.get_num_threads())


def keep_threads(count: int, reason: str) -> None:
    """Compute with as many threads as before: how many there are changes the last bits of sums."""
    import torch

    global _chosen
    torch.set_num_threads(count)
    _chosen = Threads(count, reason)


def reason_for(count: int) -> str:
    """Why so many threads compute: as :func:`use_threads` has chosen, or as somebody else has set it since."""
    return _chosen.reason if _chosen is not None and _chosen.count == count else "as the program has set it"


def _own_cpus() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _load() -> float:
    """Programs that want to run, where only the average of a minute is known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _idle_seconds(path: Path, cpus: Iterable[int]) -> float | None:
    """Seconds for which these processors had nothing to do; None where nobody tells."""
    text = _read(path)
    if text is None:
        return None
    fields = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("cpu")}
    own = [fields[f"cpu{cpu}"] for cpu in cpus if f"cpu{cpu}" in fields]
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(int(field[3]) + int(field[4]) for field in own) / ticks if own else None


def _group_folders(proc: Path, cgroups: Path, controller: str) -> list[Path]:
    """The folders of this process's control group and of those above it: version 2, or a controller of version 1."""
    for line in (_read(proc / "self" / "cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        if not controllers and not (cgroups / "cgroup.controllers").exists():
            continue
        # In a container the group's name is often that of the host, and its files lie at the root.
        below = Path(group.lstrip("/"))
        folders = [root / below, *(root / parent for parent in below.parents), root]
        return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    return []


def _quotas(proc: Path, cgroups: Path) -> list[float]:
    """Cores that the control groups allow, of those that set a limit."""
    found = []
    for folder in _group_folders(proc, cgroups, "cpu"):
        text = _read(folder / "cpu.max")
        if text is None:
            text = f"{_read(folder / 'cpu.cfs_quota_us') or -1} {_read(folder / 'cpu.cfs_period_us') or 100_000}"
        quota, period = text.split()
        if quota.isdigit() and int(quota) > 0:
            found.append(int(quota) / int(period))
    return found


def _group_seconds(proc: Path, cgroups: Path) -> float | None:
    """Processor time that the control group has used."""
    for folder in _group_folders(proc, cgroups, "cpu"):
        for line in (_read(folder / "cpu.stat") or "").splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1]) / 1e6
    for folder in _group_folders(proc, cgroups, "cpuacct"):
        text = _read(folder / "cpuacct.usage")
        if text is not None:
            return int(text) / 1e9
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
