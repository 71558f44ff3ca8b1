"""Paths may be given as text to every function of the Python API that takes one."""

from pathlib import Path

import pytest

import peftlab
from peftlab.bench.suite import load_suite
from peftlab.core.config import read_yaml
from peftlab.core.errors import PeftlabError
from peftlab.data.data_config import DataConfig
from peftlab.data.streaming import stream_file
from peftlab.data.tables import read_table, read_tables
from peftlab.recipe.schema import write_recipe
from peftlab.report.document import build_report
from peftlab.report.page import write_report

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_recipe_is_loaded_checked_and_run(tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    recipe, document = peftlab.load_recipe(
        str(REPOSITORY / "recipes" / "quickstart.yaml"),
        [
            f"model={{path: {tiny_bert}}}",
            f"data={{source: {reviews}}}",
            "task={type: text_classification, max_length: 16}",
            "training={max_steps: 2, batch_size: 4}",
            "measure=false",
        ],
    )
    result = peftlab.run_recipe(recipe, document, output_dir=str(tmp_path / "run"), offline=True)
    assert peftlab.read_record(str(tmp_path / "run")).status == result.record.status
    from peftlab.artifact.saved_folder import read_run_recipe
    from peftlab.inference.load_tuned import load_tuned

    assert load_tuned(str(tmp_path / "run")).labels == ("bad", "good")
    assert read_run_recipe(str(tmp_path / "run")).name == "quickstart"
    write_recipe(recipe, str(tmp_path / "again.yaml"))
    assert peftlab.load_recipe(str(tmp_path / "again.yaml"))[0] == recipe
    write_report([str(tmp_path / "run")], str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").is_file()
    assert build_report([str(tmp_path)]).found.entries


def test_tables_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    path, config = str(tmp_path / "a.csv"), DataConfig(source="x")
    assert len(read_table(path, config)) == 1
    assert len(read_tables(path, config)[""]) == 1
    assert [len(table) for table, _ in stream_file(path, config, keep=["text"]).chunks] == [1]


@pytest.mark.parametrize("read", [peftlab.load_recipe, read_yaml, load_suite, peftlab.read_record])
def test_a_path_that_is_not_there_gets_a_message(read, tmp_path: Path) -> None:
    with pytest.raises(PeftlabError, match="gone"):
        read(str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize("read", [peftlab.load_recipe, peftlab.load, peftlab.read_record])
def test_what_is_no_path_gets_a_message(read) -> None:
    with pytest.raises(PeftlabError, match="is needed, not 5"):
        read(5)


@pytest.mark.parametrize("overrides", ["seed=1", {"seed": 1}])
def test_overrides_are_a_list(overrides) -> None:
    with pytest.raises(PeftlabError, match=r"overrides: a list is needed, not [\s\S]*As in load_recipe"):
        peftlab.load_recipe("quickstart", overrides)
