"""What all tests share: where real data lies, tiny models on disk, and GPU tests that say why they are skipped."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from browser import Page, find_browser, open_browser
from filelock import FileLock
from hypothesis import settings

from peftlab.core import late_compilation
from peftlab.testing.tiny_bases import BAD, GOOD, sentences, write_bert, write_clip, write_gpt2, write_vit

# Each worker of xdist has a core of its own. A number must be said in any case: runs are compared bit for bit, and how
# many cores are free changes from one to the next.
# A worker inherits what the process that starts it has set for itself, so it sets its own number whatever is there.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))

late_compilation.begin()  # as in the command

# A busy machine is no fault of what is tested: pytest-timeout ends what hangs.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

Command = Callable[..., subprocess.CompletedProcess[str]]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]
REPOSITORY = Path(__file__).resolve().parent.parent
FIRST = ("test_processes.py", "test_ray.py")
"""Files whose tests share what takes minutes: at the end, an idle worker would take half of them, and make it again."""
LARGE_LIBRARY = 50
"""Its modules."""
modules_frozen = 0


def wants_gpu(config: pytest.Config) -> bool:
    """Whether this call asks for the tests of a GPU, as `-m gpu` does."""
    expression = config.getoption("-m")
    return re.search(r"(?<!not )\bgpu\b", " ".join(expression.split())) is not None


def pytest_configure(config: pytest.Config) -> None:
    """Every other test is written for a CPU: hide the GPU from it, before CUDA is started, and from its processes."""
    if not wants_gpu(config):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each worker takes a row of modules, so that what a module's tests share is made once; idle ones take from others."""
    if config.getoption("dist") != "load":  # what -n means by itself
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_collection() -> None:
    """A fifth of the time that imports take goes into looking for garbage, of which they make hardly any."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what the imports have made out of every later collection of garbage: each run collects."""
    global modules_frozen
    gc.enable()
    gc.collect()
    gc.freeze()
    modules_frozen = len(sys.modules)


@pytest.hookimpl(trylast=True)  # the fixtures of a file are gone then
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The same after each file, and after a test that was the first to ask for a large library."""
    ends_file = nextitem is not None and nextitem.path != item.path
    if ends_file or len(sys.modules) > modules_frozen + LARGE_LIBRARY:
        pytest_collection_finish()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Files are whole after a kill without that; only a power cut, which no test makes, could tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import torch

    items.sort(key=lambda item: item.path.name not in FIRST)
    with_gpu = wants_gpu(config)
    for item in items:
        if "gpu" not in item.keywords:
            if with_gpu and torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="a test for a CPU, and the GPU is shown: leave out -m gpu"))
        elif not with_gpu:
            item.add_marker(pytest.mark.skip(reason="the GPU is hidden from the other tests: run these with -m gpu"))
        elif not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device here"))


@pytest.fixture(autouse=True)
def empty_gpu(request: pytest.FixtureRequest) -> None:
    """What earlier tests have left on the GPU would count in the allocator's peaks."""
    if "gpu" in request.keywords:
        import torch

        gc.collect()
        torch.cuda.empty_cache()


@pytest.fixture(scope="session", autouse=True)
def real_sizes() -> Iterator[dict[str, int]]:
    """Runs of tests measure this machine's matmul rate on small matrices; the real sizes, for the test of that rate."""
    from peftlab.measurement import roofline

    real = roofline.SIZES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "SIZES", {**real, "cpu": 128})
        yield real


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the shared data sets are not at {folder}")
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a headless browser; tests that need it skip where there is none."""
    executable = find_browser()
    if executable is None:
        pytest.skip("there is no chromium here")
    with open_browser(executable, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Folders that all workers of xdist share: `made_once("name", write)` calls `write(folder)` in the first of them.

    Tests read them only: one that changes a file copies the folder before.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    shared.mkdir(exist_ok=True)

    def make(name: str, write: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                write(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def reviews(made_once: MadeOnce) -> Path:
    """A CSV of 240 labelled texts that a tiny model can learn."""

    def write(folder: Path) -> None:
        rows = "".join(f"{text},{label}\n" for text, label in sentences(240))
        (folder / "reviews.csv").write_text(f"text,label\n{rows}")

    return made_once("reviews", write) / "reviews.csv"


@pytest.fixture(scope="session")
def tiny_bert(made_once: MadeOnce) -> Path:
    """A BERT with random weights of 2 layers, and a WordPiece tokenizer of the tests' words."""
    return made_once("tiny-bert", write_bert)


@pytest.fixture(scope="session")
def tiny_vit(made_once: MadeOnce) -> Path:
    """A ViT with random weights of 2 layers, for images of 8 × 8 pixels in patches of 4."""
    return made_once("tiny-vit", write_vit)


@pytest.fixture(scope="session")
def tiny_clip(made_once: MadeOnce) -> Path:
    """A CLIP with random weights of 2 layers a tower: images of 8 × 8 pixels, and texts by the tokenizer of tiny_bert."""
    return made_once("tiny-clip", write_clip)


@pytest.fixture(scope="session")
def tiny_gpt2(made_once: MadeOnce) -> Path:
    """A GPT-2 with random weights of 2 layers, and a byte-level tokenizer without a padding token."""
    return made_once("tiny-gpt2", write_gpt2)


TINY_RECIPE = """\
name: tiny-{name}
seed: {seed}
model: {{path: {model}, quantization: {quantization}, dtype: {dtype}}}
task: {task}
data: {{source: {data}, validation_fraction: 0.2}}
method: {method}
training: {{max_steps: {steps}, batch_size: 8, learning_rate: 2e-2}}
measure: {measure}
waive_guards: [answers_vary]  # how much such a model learns is not what these runs are for
"""


@pytest.fixture(scope="session")
def tiny_run(made_once: MadeOnce, tiny_bert: Path, tiny_gpt2: Path, reviews: Path) -> Callable[..., Path]:
    """Runs of tiny models, made when a test first asks for them: `tiny_run("{type: lora}", seed=1)` is a folder.

    To measure memory and FLOPs takes as long as the rest of such a run: a test that reads them says `measure=True`.
    """

    def run(
        method: str = "{type: lora, rank: 4}",
        *,
        seed: int = 0,
        base: str | Path = "bert",
        quantization: str = "null",
        dtype: str = "auto",
        task: str = "{type: text_classification, max_length: 32}",
        data: Path = reviews,
        steps: int = 40,
        measure: bool = False,
    ) -> Path:
        model = {"bert": tiny_bert, "gpt2": tiny_gpt2}.get(str(base), base)
        values = {"name": Path(base).name, "seed": seed, "model": model, "task": task, "data": data}
        values |= {"method": method, "quantization": quantization, "dtype": dtype}
        recipe = TINY_RECIPE.format(**values, steps=steps, measure=str(measure).lower())

        def write(folder: Path) -> None:
            from peftlab.recipe.schema import load_recipe
            from peftlab.run.run import run_recipe

            (folder / "recipe.yaml").write_text(recipe)
            loaded, document = load_recipe(folder / "recipe.yaml")
            result = run_recipe(loaded, document, output_dir=folder / "run")
            assert result.record.status == "success", result.record.error

        return made_once(f"run-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}", write) / "run"

    return run


@pytest.fixture(scope="session")
def entities(made_once: MadeOnce) -> Path:
    """CoNLL sentences whose good and bad words are entities of one or two words."""
    return made_once("entities", write_entities) / "entities.conll"


def write_entities(folder: Path) -> None:
    blocks = []
    for text, _ in sentences(160, seed=3):
        lines, inside = [], ""
        for word in text.split():
            kind = "GOOD" if word in GOOD else "BAD" if word in BAD else ""
            tag = f"{'I' if inside == kind else 'B'}-{kind}" if kind else "O"
            lines.append(f"{word}\t{tag}")
            inside = kind
        blocks.append("\n".join(lines))
    (folder / "entities.conll").write_text("\n\n".join(blocks) + "\n")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `peftlab` in this process (which spares the imports), in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)

    def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
        from peftlab.cli.app import main

        monkeypatch.setattr(sys, "argv", ["peftlab", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
            main()
        # --offline sets variables for its own process.
        os.environ.clear()
        os.environ.update(environment)
        captured = capfd.readouterr()
        code = caught.value.code
        return subprocess.CompletedProcess(
            ["peftlab"], code if isinstance(code, int) else int(code is not None), captured.out, captured.err
        )

    return run


@pytest.fixture
def forked_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `bench` and `tune` start from this process are forks, which spares the imports.

    The suites that are killed have runs in fresh processes.
    """
    from peftlab.bench import worker
    from peftlab.training.launch import PEFTLAB
    from tests.forks import Fork

    def popen(command: Sequence[str], *, stdout: IO[Any], stderr: int, env: Mapping[str, str], **_: object) -> Fork:
        assert tuple(command[: len(PEFTLAB)]) == PEFTLAB
        assert stderr == subprocess.STDOUT
        return Fork(command[len(PEFTLAB) :], folder=Path.cwd(), stdout=stdout, stderr=stdout, environment=env)

    names = {name: getattr(subprocess, name) for name in ("DEVNULL", "STDOUT", "TimeoutExpired")}
    monkeypatch.setattr(worker, "subprocess", SimpleNamespace(**names, Popen=popen))
