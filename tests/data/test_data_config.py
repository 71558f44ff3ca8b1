"""The ``data`` section: what it takes, what it refuses."""

import pytest

from peftlab.core.config import build_config, parse_yaml
from peftlab.core.errors import ConfigError
from peftlab.data.data_config import DataConfig, SplitSources


def build(text):
    document = parse_yaml(text, source="recipe.yaml")
    return build_config(DataConfig, document.values["data"], document=document, path=("data",))


def test_only_the_source_is_required_and_the_contract_s_defaults_hold():
    config = build("data: {source: tweets.csv}")
    assert config.encoding == "utf-8"
    assert config.deduplicate is True
    assert (config.test_fraction, config.validation_fraction) == (0.2, 0.1)
    assert config.max_train_examples is None


def test_a_mapping_of_sources_is_taken_and_written_back():
    config = build("data: {source: {train: a.csv, test: b.csv}, test_fraction: 0}")
    assert config.source == SplitSources(train="a.csv", test="b.csv")
    assert DataConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{source: a.csv, encodng: utf-8}", "Did you mean `encoding`?"),
        ("{source: a.csv, encoding: utf-9}", "unknown encoding `utf-9`"),
        ("{source: a.csv, encoding: base64}", "unknown encoding `base64`"),
        ("{source: a.csv, test_fraction: 1}", "less than 1"),
        ("{source: a.csv, draw_seed: 1}", "set `max_train_examples` or `…_per_class` beside it"),
        ("{source: a.csv, validation_fraction: -0.1}", "greater than or equal to 0"),
        ("{source: a.csv, max_train_examples: 0}", "greater than 0"),
        ("{source: a.csv, max_train_examples: many}", "integer"),
        ("{source: ' '}", "an address is needed"),
        ("{}", "required"),
        ("{source: {test: b.csv}}", "required"),
        ("{source: a.csv, delimiter: '||'}", "one character is needed"),
        ("{source: a.csv, column_names: [a, a]}", "given twice"),
        ("{source: a.csv, format: excel}", "is not one of"),
        ("{source: {train: a.csv}, splits: {train: x}}", "`splits` names the parts of one source"),
        ("{source: a/b, splits: {test: x}}", "what the source calls `train`"),
    ],
)
def test_what_cannot_be_is_an_error_with_its_line(section, message):
    with pytest.raises(ConfigError) as caught:
        build(f"data: {section}")
    assert message in str(caught.value)
    assert "recipe.yaml:1: data" in str(caught.value)


def test_every_key_says_what_it_is():
    for cls in (DataConfig, SplitSources):
        for name, field in cls.model_fields.items():
            assert field.description, name
