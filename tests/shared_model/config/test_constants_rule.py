"""The rule by which a run chooses its feature constants, at its bounds, and whom it is told to."""

import pytest

from shared_model.config.choices import ConstantsFrom
from shared_model.config.composition import compose
from shared_model.config.constants_rule import advised_constants, constants_advice

PRIVATE_MEAN, SHIPPED = ConstantsFrom.PRIVATE_MEAN, ConstantsFrom.SHIPPED


@pytest.mark.parametrize(
    ("num_patients", "epsilon", "expected"),
    [
        (300, 2.01, PRIVATE_MEAN),
        (299, 8.0, SHIPPED),
        (10_000, 2.0, SHIPPED),
        (300, None, PRIVATE_MEAN),
        (299, None, SHIPPED),
        (0, 1.0, SHIPPED),
    ],
)
def test_many_patients_at_a_large_epsilon_buy_their_own_mean(num_patients, epsilon, expected):
    assert advised_constants(num_patients, epsilon) is expected


def advice(*overrides, num_patients):
    return constants_advice(compose(["preset=cbis_mass", "data.root=.", "run.dir=unused", *overrides]), num_patients)


@pytest.mark.parametrize(
    ("overrides", "num_patients", "reason"),
    [
        ([], 290, "with 290 declared patients "),
        (["privacy.target_epsilon=2"], 690, "with privacy.target_epsilon=2 "),
        (["privacy.target_epsilon=1"], None, "with privacy.target_epsilon=1 "),
        (["privacy.target_epsilon=1"], 100, "with 100 declared patients "),
    ],
)
def test_a_private_mean_against_the_rule_is_told_in_one_line(overrides, num_patients, reason):
    line = advice(*overrides, num_patients=num_patients)
    assert reason in line
    assert "model.feature_constants=shipped" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("overrides", "num_patients"),
    [
        ([], 300),
        ([], None),
        (["privacy=off"], 10),
        (["model.feature_constants=public", "privacy.target_epsilon=1"], 10),
        (["model.modality=clinical", "privacy.target_epsilon=1"], 10),
    ],
)
def test_nothing_is_said_otherwise(overrides, num_patients):
    assert advice(*overrides, num_patients=num_patients) is None


def test_the_preset_of_few_patients_is_what_the_rule_says():
    config = compose(["preset=few_patients", "data.root=.", "run.dir=unused"])
    assert config.model.feature_constants is SHIPPED
    assert constants_advice(config, 50) is None
