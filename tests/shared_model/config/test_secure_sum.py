"""Which federations can add up in secret, and which aggregation the default stands for."""

import functools
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.config.composition import compose, settled
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError


@functools.cache
def smoke_preset():
    """As JSON: composing it takes Hydra longer than all else here."""
    return compose(["preset=smoke"]).to_json()


def federation_of(num_sites, min_sites, max_colluding):
    values = json.loads(smoke_preset())
    values["federation"] |= {
        "sites": [f"S{number}" for number in range(num_sites)],
        "min_sites": min_sites,
        "max_colluding": max_colluding,
        "secure_sum": True,
    }
    values["strategy"]["aggregation"] = "mean"
    return ExperimentConfig.from_json(json.dumps(values)).federation


@given(num_sites=st.integers(1, 12), data=st.data())
def test_a_federation_is_taken_exactly_if_no_two_sums_of_a_round_can_be_opened_and_each_hides_its_sites(
    num_sites, data
):
    """A second way: by counting sites."""
    min_sites = data.draw(st.integers(1, num_sites))
    colluding = data.draw(st.integers(0, num_sites))
    threshold = next(t for t in itertools.count() if 2 * t - num_sites > colluding)
    # Two sets of so many sites share an honest one; the fewest sites of a sum make such a set; two honest ones exist.
    is_possible = threshold <= min_sites and num_sites - colluding >= 2
    try:
        federation = federation_of(num_sites, min_sites, colluding)
    except ConfigError:
        assert not is_possible
    else:
        assert is_possible
        assert federation.opening_threshold == threshold
        assert min_sites - colluding >= 1


@given(num_sites=st.integers(2, 12), data=st.data())
def test_the_refusal_says_which_min_sites_to_set(num_sites, data):
    colluding = data.draw(st.integers(0, num_sites - 2))
    least = (num_sites + colluding) // 2 + 1
    with pytest.raises(ConfigError, match=rf"set federation\.min_sites={least}\.$|>= 2 with"):
        federation_of(num_sites, least - 1, colluding)
    assert federation_of(num_sites, least, colluding).min_sites == least


@pytest.mark.parametrize(
    ("overrides", "aggregation"),
    [
        ((), "guarded"),
        (("federation.secure_sum=false",), "guarded"),
        (("federation.secure_sum=true",), "mean"),
        (("federation.secure_sum=true", "strategy.aggregation=mean"), "mean"),
        (("federation.secure_sum=true", "strategy.aggregation=auto"), "mean"),
        (("strategy.aggregation=auto",), "guarded"),
        (("strategy.aggregation=median",), "median"),
        (("strategy=one_shot", "training.num_rounds=1", "federation.secure_sum=true"), "mean"),
    ],
)
def test_auto_stands_for_the_mean_of_secure_sums_and_else_for_the_guarded_one(overrides, aggregation):
    config = compose(["preset=smoke", *overrides])
    assert config.strategy.aggregation == aggregation
    assert '"auto"' not in config.to_json().replace('"max_update_norm": "auto"', "")
    assert ExperimentConfig.from_json(config.to_json()) == config


def test_a_site_that_receives_auto_refuses():
    values = json.loads(smoke_preset())
    values["strategy"]["aggregation"] = "auto"
    with pytest.raises(ConfigError, match=r"strategy\.aggregation to be one of guarded, .*, got 'auto'"):
        ExperimentConfig.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "values", [None, [], {}, {"strategy": 1, "federation": {}}, {"strategy": {"aggregation": "auto"}}]
)
def test_what_is_no_configuration_is_left_to_others_to_judge(values):
    assert settled(values) == values
