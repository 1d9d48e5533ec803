"""The records as reports hold them: names and shapes of the published format."""

import json

from promptreach.diagnosis.numbers import (
    SAME,
    USER,
    AttemptNumbers,
    BareNumbers,
    ChangedSetting,
    CollapseNumbers,
    PoolingNumbers,
    Scores,
    TrainingNumbers,
    UserNumbers,
    as_values,
    numbers_of,
)

SCORES = Scores(0.5, 0.8, 0.01, 0.7)
COLLAPSE = CollapseNumbers("fresh", 1.0, 0.5, 1, True)


def test_what_the_user_brought_keeps_its_published_names() -> None:
    user = UserNumbers(0.5, 0.8, 0.01, 0.7, "finished", "adapter", "prompt", 4, 0)
    lora, own = {USER: SAME}, {"head": SAME}
    training = TrainingNumbers("loss", "memorise", "all rows", 8, 8, {}, lora, {}, own, "lora", (64,), user)
    values = as_values(training)
    assert {"yours", "against_yours"} <= values.keys()
    assert not {"user", "against_user"} & values.keys()
    assert values["against_lora"]["yours"] == {"gain": 0.0, "low": 0.0, "high": 0.0, "error": 0.0}
    assert values["yours"]["kind"] == "adapter"
    reading = as_values(PoolingNumbers("mean", "first", {"mean": 0.5}, {}, 0.4, SAME))
    assert (reading["yours"], reading["own"], reading["chosen"]) == ("first", 0.4, "mean")


def test_values_are_what_json_gives_back() -> None:
    path = (ChangedSetting("steps", 10, 20, SAME, 0.9),)
    for numbers in (COLLAPSE, AttemptNumbers(SCORES, None, {"init": "random"}, {"init": "text"}, path, SAME)):
        values = as_values(numbers)
        assert json.loads(json.dumps(values)) == values
    assert as_values(COLLAPSE)["class"] == "fresh"
    assert as_values({"any": 1}) == {"any": 1}


def test_completions_have_no_most_frequent_label() -> None:
    bare = {"loss": 0.5, "accuracy": 0.8, "accuracy_error": 0.01, "all_right": 0.7}
    assert "majority_accuracy" not in as_values(BareNumbers(**bare, pooling=None, majority_accuracy=None))
    assert as_values(BareNumbers(**bare, pooling="mean", majority_accuracy=0.5))["majority_accuracy"] == 0.5


def test_a_record_is_found_by_its_kind() -> None:
    found: list[object] = [{"mean": 1.0}, COLLAPSE, SCORES]
    assert numbers_of(found, CollapseNumbers) is COLLAPSE
    assert numbers_of(found, TrainingNumbers) is None
