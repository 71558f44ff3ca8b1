"""How files are read that come after training: what is the recipe's, what is the file's, and what hints name."""

import pytest

from peftlab.core.config import parse_yaml
from peftlab.core.errors import ConfigError, DataError
from peftlab.inference.files import options_in_hints, reading_config
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
    ],
)
def test_hints_name_options_where_there_is_no_recipe(hint, shown):
    with pytest.raises(DataError) as caught, options_in_hints():
        raise DataError("wrong", hint=hint)
    assert caught.value.hint == shown
