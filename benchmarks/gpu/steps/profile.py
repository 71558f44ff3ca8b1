"""One training step of a case under torch's profiler: which kernels take the time, and where the card waits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.steps.cases import CASES
from benchmarks.gpu.steps.jobs import batch_of, check, training_job
from benchmarks.gpu.steps.models import model_folder
from benchmarks.gpu.steps.step import Findings, run_step
from peftlab.acceleration.accelerated import accelerated
from peftlab.cli.output import quiet_libraries
from peftlab.training.loop import optimizer_step

WARM_UP = 3
MOST_KERNELS = 25
LONGEST_GAPS = 10
NAME_CHARACTERS = 160
SYNCHRONISING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


def main(findings: Findings) -> None:
    """Profile it."""
    quiet_libraries(offline=True)
    device, on_cuda = torch.device(findings.device), findings.device == "cuda"
    case = CASES[findings.settings["case"]]
    folder = model_folder(case.model, findings.scratch, tiny=findings.is_tiny, device=findings.device)
    length = 64 if findings.is_tiny else case.task["max_length"]
    checked = check(folder, {**case.task, "max_length": length}, case.method)
    batch = batch_of(checked, size=case.batch_size, length=length)
    with training_job(checked, batch, device) as job:
        job.model.train()
        step = next(iter(job.plan.steps(after=0)))
        with accelerated(job.model):
            for _ in range(WARM_UP):
                optimizer_step(job, step)
            findings.note("tokens", case.batch_size * length)
            findings.note("step_seconds", timed(lambda: optimizer_step(job, step), on_cuda=on_cuda))
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
            with profile(activities=activities) as profiler:
                profiled = timed(lambda: optimizer_step(job, step), on_cuda=on_cuda)
    findings.note("profiled_step_seconds", profiled)
    events = profiler.events()
    assert events is not None
    if on_cuda:
        on_card(findings, events)
    else:
        findings.note("kernels", "not applicable on cpu")
        findings.note("host_gaps", "not applicable on cpu")
    findings.note("host_operations", host_operations(events))
    seconds = findings.results["step_seconds"]
    findings.line = f"a step of {case.batch_size * length:,} tokens in {seconds * 1000:,.0f} ms"
    if on_cuda:
        findings.line += f"; the card is idle for {findings.results['host_gaps']['share']:.1%} of it"


def timed(work: Any, *, on_cuda: bool) -> float:
    """Seconds of a step, the card's work included."""
    if on_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if on_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def on_card(findings: Findings, events: Iterable[Any]) -> None:
    """Kernels by their time, and the gaps between them."""
    spans, kernels = [], defaultdict(lambda: [0, 0.0])
    for event in events:
        # Named regions, such as the optimizer's step, are told on the card too, and would fill every gap in them.
        if event.device_type != torch.autograd.DeviceType.CUDA or event.is_user_annotation:
            continue
        begin, end = event.time_range.start, event.time_range.end
        spans.append((begin, end))
        kernels[event.name[:NAME_CHARACTERS]][0] += 1
        kernels[event.name[:NAME_CHARACTERS]][1] += end - begin
    total = sum(microseconds for _, microseconds in kernels.values())
    ordered = sorted(kernels.items(), key=lambda item: -item[1][1])[:MOST_KERNELS]
    findings.note(
        "kernels",
        [
            {"name": name, "calls": calls, "microseconds": round(microseconds, 1), "share": microseconds / total}
            for name, (calls, microseconds) in ordered
        ],
    )
    findings.note("kernel_kinds", len(kernels))
    findings.note("kernel_calls", len(spans))
    findings.note("host_gaps", gaps(spans))


def gaps(spans: list[tuple[float, float]]) -> dict[str, Any]:
    """When the card has nothing to do between the first and the last kernel."""
    ordered = sorted(spans)
    if not ordered:
        return {"share": 0.0, "microseconds": 0.0, "longest_microseconds": [], "count": 0}
    idle, (begin, busy_until) = [], ordered[0]
    for start, end in ordered:
        if start > busy_until:
            idle.append(start - busy_until)
        busy_until = max(busy_until, end)
    return {
        "share": sum(idle) / (busy_until - begin) if busy_until > begin else 0.0,
        "microseconds": round(sum(idle), 1),
        "longest_microseconds": [round(gap, 1) for gap in sorted(idle, reverse=True)[:LONGEST_GAPS]],
        "count": len(idle),
    }


def host_operations(events: Iterable[Any]) -> dict[str, Any]:
    """What the host spends its time on, and how often it waits for the card."""
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for event in events:
        if event.device_type == torch.autograd.DeviceType.CPU:
            found[event.name[:NAME_CHARACTERS]][0] += 1
            found[event.name[:NAME_CHARACTERS]][1] += event.self_cpu_time_total
    ordered = sorted(found.items(), key=lambda item: -item[1][1])[:MOST_KERNELS]
    return {
        "waits_for_the_card": {
            name: int(count) for name, (count, _) in found.items() if name.startswith(SYNCHRONISING)
        },
        "launches": int(sum(count for name, (count, _) in found.items() if name.startswith("cudaLaunch"))),
        "longest": [
            {"name": name, "calls": int(count), "self_microseconds": round(microseconds, 1)}
            for name, (count, microseconds) in ordered
        ],
    }


if __name__ == "__main__":
    run_step(main)
