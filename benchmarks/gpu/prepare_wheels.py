"""Fetch the wheels that a machine without a network needs for the check, where there is a network.

    python benchmarks/gpu/prepare_wheels.py --output DIR [--python 3.12] [--have FILE] [--cuda 13.0]

FILE is what ``pip list --format=freeze`` prints on that machine; a line may also be a name alone, whose version is then
taken to fit. What is there in a version that fits is left out. Without FILE, the machine is taken to
have torch and what torch needs. ``--cuda`` keeps bitsandbytes' kernels for that version of CUDA alone, which makes its
wheel a twentieth as large.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
MORE = ("pytest>=8.3", "pytest-timeout>=2.3")
"""For the tests; serving's packages come by its extra."""
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 26, 24, 17)] + ["manylinux2014_x86_64"]
OWN = re.compile(r"(peftlab|torch|triton|nvidia-.*|cuda-.*)")
"""Never fetched: the checkout itself, and the machine's own torch with what belongs to it."""


def main() -> None:
    """Resolve, leave out what is there, and fetch the rest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the wheels")
    parser.add_argument("--python", default="3.12", help="version of Python there")
    parser.add_argument("--have", type=Path, help="what is installed there: name==version or name, a line each")
    parser.add_argument("--cuda", help="version of CUDA of the torch there, such as 13.0")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    needs = resolve()
    have = read_have(options.have) if options.have else dict.fromkeys(closure("torch", needs))
    for name, item in sorted(needs.items()):
        if not OWN.fullmatch(name) and not (name in have and fits(name, have[name], needs)):
            fetch(f"{name}=={item['version']}", options.python, options.output)
    for wheel in options.output.glob("bitsandbytes-*.whl"):
        if options.cuda:
            keep_one_cuda(wheel, options.cuda.replace(".", ""))
    wheels = sorted(options.output.glob("*.whl"))
    print("\n".join(f"{wheel.stat().st_size / 1e6:8.1f} MB  {wheel.name}" for wheel in wheels))
    print(f"{sum(wheel.stat().st_size for wheel in wheels) / 1e6:8.1f} MB in {len(wheels)} wheels")


def resolve() -> dict[str, dict]:
    """The metadata of peftlab and of all packages that it needs for the check, by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), f"{ROOT}[serve]", *MORE], check=True)
        items = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {canonical(item["name"]): item for item in items}


def fits(name: str, version: str | None, needs: dict[str, dict]) -> bool:
    """Whether a version is one that all who need the package can use; an unknown one is taken to be."""
    if version is None:
        return True
    wanted = [Requirement(text) for item in needs.values() for text in item.get("requires_dist") or []]
    return all(
        wish.specifier.contains(version, prereleases=True)
        for wish in wanted
        if canonical(wish.name) == name and (wish.marker is None or wish.marker.evaluate({"extra": ""}))
    )


def closure(name: str, needs: dict[str, dict]) -> set[str]:
    """A package and all that it needs, extras left out."""
    found, waiting = set(), [name]
    while waiting:
        now = waiting.pop()
        if now in found or now not in needs:
            continue
        found.add(now)
        texts = [text for text in needs[now].get("requires_dist") or [] if "extra ==" not in text]
        waiting += [canonical(re.match(r"[\w.-]+", text)[0]) for text in texts]
    return found


def read_have(path: Path) -> dict[str, str | None]:
    """Names and versions; None where a line has the name alone."""
    found = {}
    for line in path.read_text(encoding="utf-8").split():
        name, equals, version = line.partition("==")
        found[canonical(name)] = version.partition("+")[0] if equals else None
    return found


def canonical(name: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(requirement: str, python: str, folder: Path) -> None:
    """A wheel for the other machine; of a package that has none, one is made here, if it is plain Python."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    target = ["--python-version", python, "--implementation", "cp", "--only-binary=:all:"]
    target += [word for platform in PLATFORMS for word in ("--platform", platform)]
    quiet = ["--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "download", *quiet, *target, "--dest", str(folder), requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return
    with tempfile.TemporaryDirectory() as own:
        subprocess.run([*command, "wheel", *quiet, "--wheel-dir", own, requirement], check=True)
        (wheel,) = Path(own).glob("*.whl")
        if not wheel.name.endswith("-none-any.whl"):
            raise SystemExit(f"{requirement} has no wheel for Python {python} on Linux:\n{done.stderr[-500:]}")
        (folder / wheel.name).write_bytes(wheel.read_bytes())


def keep_one_cuda(wheel: Path, digits: str) -> None:
    """Leave bitsandbytes' libraries for other accelerators out of its wheel."""
    with zipfile.ZipFile(wheel) as source:
        kept = [name for name in source.namelist() if is_kept(name, digits)]
        contents = {name: source.read(name) for name in kept}
    if not any(name.endswith(f"_cuda{digits}.so") for name in contents):
        raise SystemExit(f"{wheel.name} has no kernels for CUDA {digits}")
    record = next(name for name in contents if name.endswith(".dist-info/RECORD"))
    contents[record] = record_of(contents, record)
    partial = wheel.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in contents.items():
            target.writestr(name, content)
    partial.replace(wheel)


def is_kept(name: str, digits: str) -> bool:
    """Whether a file is no library for an accelerator, or the one that is wanted."""
    library = re.search(r"libbitsandbytes_(\w+)\.so$", name)
    return library is None or library[1] in ("cpu", f"cuda{digits}")


def record_of(contents: dict[str, bytes], record: str) -> bytes:
    """The wheel's list of its files."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for name, content in contents.items():
        if name == record:
            writer.writerow([name, "", ""])
        else:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            writer.writerow([name, f"sha256={digest}", len(content)])
    return lines.getvalue().encode()


if __name__ == "__main__":
    main()
