"""What a run says while it can still be stopped."""

from peftlab.core.splits import EncodedSplit, Split
from peftlab.recipe.from_settings import recipe_of_settings
from peftlab.recipe.schema import resolve_recipe
from peftlab.run.early_warnings import CourseWatch, warnings_at_start

SETTINGS = [
    "model.path=org/base",
    "task.type=text_classification",
    "data.source=rows.csv",
    "method.type=lora",
]


def recipe(*settings):
    return resolve_recipe(recipe_of_settings([*SETTINGS, *settings])[0])


def split(labels):
    return Split("train", range(len(labels)), {"text": [str(at) for at in range(len(labels))], "label": labels})


def at_start(recipe, labels=("a", "b"), cut=0):
    encoded = EncodedSplit("train", range(10), [{}] * 10, {"texts_cut": cut})
    return list(warnings_at_start(recipe, {"train": split(["a", "b"] * 5)}, encoded, labels))


def test_settings_alone_are_a_recipe():
    assert recipe().name == "text_classification-lora"


def test_what_is_said_at_the_start():
    assert at_start(recipe(), cut=1) == []
    (rate,) = at_start(recipe("training.learning_rate=0.5"))
    assert "usually learns at" in rate
    assert "usually learns at" in at_start(recipe("training.learning_rate=1e-7"))[0]
    (unheeded,) = at_start(recipe("training.optimizer=rprop"))
    assert "rprop do not follow the learning rate" in unheeded
    assert (
        at_start(recipe("training.optimizer=rprop", "training.schedule=constant", "training.warmup_fraction=0")) == []
    )
    (cut,) = at_start(recipe(), cut=2)
    assert cut.startswith("20% of the training texts")
    (label,) = at_start(recipe(), labels=("a", "b", "c"))
    assert "`c`" in label


def test_a_flat_loss_is_said_once_and_a_falling_one_never():
    said = []
    watch = CourseWatch(recipe(), None, said.append)
    for step in range(0, 200, 10):
        watch.look_at_loss(step, 0.693)
    assert len(said) == 1
    assert "hardly fallen" in said[0]
    watch = CourseWatch(recipe(), None, said.append)
    for step in range(0, 200, 10):
        watch.look_at_loss(step, 0.7 - step / 1000)
    assert len(said) == 1


def test_the_majority_s_accuracy_is_said():
    said = []
    watch = CourseWatch(recipe(), split(["a"] * 8 + ["b"] * 2), said.append)
    watch.look_at_scores({"accuracy": 0.8, "loss": 0.5})
    watch.look_at_scores({"accuracy": 0.8})
    watch.look_at_scores({"accuracy": 0.9})
    assert [line for line in said if "warning" in line] == [said[1]]
    assert "`a`" in said[1]
    assert said[0] == "validation  accuracy 0.8000   loss 0.5000"


def test_no_class_weights_are_proposed_where_none_are_taken():
    for settings, proposed in (
        ([], True),
        (["training.class_weights=balanced"], False),
        (["task.type=few_shot_classification"], False),
    ):
        said = []
        CourseWatch(recipe(*settings), split(["a"] * 8 + ["b"] * 2), said.append).look_at_scores({"accuracy": 0.8})
        assert ("class_weights" in said[1]) is proposed
