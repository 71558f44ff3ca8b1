"""How files are read that come after training: what is the recipe's, what is the file's, and what hints name."""

import pytest

from peftlab.core.config import parse_yaml
from peftlab.core.errors import ConfigError, DataError
from peftlab.inference.files import options_in_hints, reading_config, refuse_options_without_file, refuse_unread
from peftlab.recipe.schema import build_recipe


def recipe(data):
    text = f"model: {{path: x}}\ntask: {{type: text_classification}}\ndata: {{source: a.csv{data}}}\nmethod: {{type: lora}}"
    return build_recipe(parse_yaml(text, source="a.yaml"), default_name="a")


def test_the_recipe_s_ways_hold_but_for_encoding_and_what_can_be_found_out():
    own = recipe(', encoding: mac-roman, delimiter: ";", decimal: ",", header: false, escape: "/"')
    config = reading_config(own, None, "utf-8")
    assert (config.encoding, config.delimiter, config.decimal) == ("utf-8", None, ",")
    assert (config.header, config.escape) == (False, "/")
    assert reading_config(recipe(', delimiter: "::", quoting: false'), None, "utf-8").delimiter == "::"


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("delimiter=;", "delimiter", ";"),
        ("delimiter=|", "delimiter", "|"),
        ('delimiter="\\t"', "delimiter", "\t"),
        ("escape=\\", "escape", "\\"),
        ("header=false", "header", False),
        ("column_names=[text, label]", "column_names", ["text", "label"]),
        ("decimal=,", "decimal", ","),
        ("sheet=Reviews 2", "sheet", "Reviews 2"),
        ("encoding=cp1252", "encoding", "cp1252"),
    ],
)
def test_every_way_to_read_can_be_said(setting, key, value):
    assert getattr(reading_config(recipe(""), None, "utf-8", [setting]), key) == value


@pytest.mark.parametrize(
    ("setting", "message"),
    [("delimeter=;", "Did you mean `delimiter`"), ("header", "KEY=VALUE"), ("drop_missing=true", "unknown key")],
)
def test_a_wrong_setting_is_an_error(setting, message):
    with pytest.raises(ConfigError, match=message):
        reading_config(recipe(""), None, "utf-8", [setting])


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("Set `data.quoting: false`.", "Set `--read quoting=false`."),
        ('Set `data.escape: "\\\\"`.', "Set `--read 'escape=\"\\\\\"'`."),
        ("Check `data.delimiter`, or mend the line.", "Check `--read delimiter=…`, or mend the line."),
        ("Set `data.drop_missing: true` to leave such rows out.", "Fill these rows, or leave them out."),
        ("Mend these rows.", "Mend these rows."),
        (
            "Set `task.multi_label: true`: a text may then have any number of labels.",
            "The run reads rows as its recipe says: mend these rows, or leave them out.",
        ),
    ],
)
def test_hints_name_options_where_there_is_no_recipe(hint, shown):
    with pytest.raises(DataError) as caught, options_in_hints():
        raise DataError("wrong", hint=hint)
    assert caught.value.hint == shown
    with pytest.raises(DataError) as caught, options_in_hints(has_options=False):
        raise DataError("wrong", hint=hint)
    assert caught.value.hint == (
        "Read the file by a library such as pandas, and give its rows." if "--read" in shown else shown
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.jsonl", {"settings": ["delimiter=;"]}, "--read delimiter.*csv, tsv are written, and a.jsonl is jsonl"),
        ("a.csv", {"settings": ["header=false", "sheet=Two"]}, "--read sheet.*a.csv is csv"),
        ("a.csv", {"settings": ["decimal=,"]}, "--read decimal.*columns of numbers, and none is read"),
        ("a.parquet", {"encoding": "cp1252"}, "--encoding.*a.parquet is parquet"),
        ("a.csv", {"file_format": "jsonl", "settings": ["quoting=false"]}, "--read quoting.*a.csv is jsonl"),
        ("saved", {"file_format": "csv"}, "--format.*the format of a file, and saved is a saved data set"),
        ("a.tsv", {"settings": ["delimiter=;"], "encoding": "cp1252"}, None),
        ("gone.jsonl", {"settings": ["delimiter=;"]}, None),  # whoever reads it says that it is not there
    ],
)
def test_options_that_say_nothing_of_the_file_are_refused(name, options, message, tmp_path):
    """The recipe's own ways to read are none of them: its file is another one."""
    path = tmp_path / name
    if name == "saved":
        path.mkdir()
        (path / "state.json").write_text("{}")
        (path / "dataset_info.json").write_text("{}")
    elif not name.startswith("gone"):
        path.write_text("text\n")
    given = {"file_format": None, "encoding": "utf-8", "settings": [], **options}
    config = reading_config(recipe(", quoting: false"), given["file_format"], given["encoding"], given["settings"])

    def check():
        refuse_unread([path], config, given["file_format"], given["settings"], has_numbers=False)

    if message is None:
        check()
    else:
        with pytest.raises(ConfigError, match=message):
            check()


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (("csv", "utf-8", []), "--format"),
        ((None, "cp1252", []), "--encoding"),
        ((None, None, ["header=false"]), "--read"),
    ],
)
def test_texts_without_a_file_are_read_by_no_option(options, option):
    refuse_options_without_file(None, "utf-8", [])
    with pytest.raises(ConfigError, match=f"{option}: .*there is none: it has no effect"):
        refuse_options_without_file(*options)


def test_an_option_counts_where_one_of_several_files_is_so_written(tmp_path):
    paths = [tmp_path / "a.parquet", tmp_path / "b.csv"]
    for path in paths:
        path.write_text("text\n")
    config = reading_config(recipe(""), None, "utf-8", ["delimiter=;"])
    refuse_unread(paths, config, None, ["delimiter=;"], has_numbers=False)
    with pytest.raises(ConfigError, match=r"--read sheet: .*and what is read is csv, parquet"):
        refuse_unread(paths, config, None, ["sheet=Two"], has_numbers=False)
