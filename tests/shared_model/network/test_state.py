"""What of a network travels: names, shapes, copies, and what is refused."""

import numpy as np
import pytest
import torch

from shared_model.errors import ConfigError
from shared_model.network.fusion import build_network
from shared_model.network.standardisation import FeatureConstants
from shared_model.network.state import (
    constants_state,
    load_constants,
    load_feature_constants,
    load_trainable,
    trainable_state,
)
from tests.small_networks import WIDTH, make_model, make_records, randomise


def constants_of(num_components):
    generator = np.random.default_rng(0)
    mean = generator.normal(size=320).astype(np.float32)
    return FeatureConstants(mean=mean, projection=generator.normal(size=(320, num_components)).astype(np.float32))


def test_components_need_constants_and_say_how_to_get_them():
    network = build_network(make_model(components=4), WIDTH, seed=0)
    for use in (lambda: network(*make_records(2)), lambda: constants_state(network)):
        with pytest.raises(ConfigError, match=r"set data.public_fraction > 0, or choose model.image_components=0"):
            use()


def test_constants_travel_apart_from_the_parameters():
    model, records = make_model(fusion="mid", components=4), make_records(20)
    server = randomise(build_network(model, WIDTH, seed=0))
    load_feature_constants(server, constants_of(4))
    site = build_network(model, WIDTH, seed=9)
    load_constants(site, constants_state(server))
    load_trainable(site, trainable_state(server))
    assert torch.equal(site(*records), server(*records))
    assert set(trainable_state(site)) == {name for name, _ in site.named_parameters()}
    assert set(constants_state(site)) == {name for name, _ in site.named_buffers()}
    assert set(constants_state(site)) == {"image_standardisation.mean", "image_standardisation.projection"}
    assert not set(constants_state(site)) & set(trainable_state(site))


def test_a_network_without_standardisation_has_no_constants():
    for network in (
        build_network(make_model("clinical"), WIDTH, seed=0),
        build_network(make_model("image", backbone="small_cnn"), WIDTH, seed=0),
    ):
        assert constants_state(network) == {}
        load_constants(network, {})
        with pytest.raises(ValueError, match=r"Expected arrays \[\], got \['image_standardisation.mean'"):
            load_feature_constants(network, constants_of(320))


def test_states_are_copies():
    network = build_network(make_model(), WIDTH, seed=0)
    for state in (trainable_state(network), constants_state(network)):
        for array in state.values():
            array.fill(1)
    assert torch.equal(network(*make_records(3)), torch.zeros(3))
    assert torch.equal(network.get_buffer("image_standardisation.mean"), torch.zeros(320))


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_other_names_or_shapes_are_refused_and_change_nothing(change):
    network = build_network(make_model(fusion="mid"), WIDTH, seed=0)
    arrays_, message = trainable_state(network), r"Expected arrays \['head.modulation.weight', 'head.output.linear"
    arrays_["head.modulation.weight"] += 1
    if change == "missing":
        del arrays_["head.output.linear.weight"]
    elif change == "unknown":
        arrays_["image_standardisation.mean"] = np.zeros(320, np.float32)
    else:
        arrays_["head.output.linear.weight"] = np.zeros((1, 3), np.float32)
        message = r"Expected head.output.linear.weight of shape \(1, 326\), got \(1, 3\)"
    with pytest.raises(ValueError, match=message):
        load_trainable(network, arrays_)
    assert not trainable_state(network)["head.modulation.weight"].any()


def test_constants_of_another_shape_are_refused():
    network = build_network(make_model(components=4), WIDTH, seed=0)
    with pytest.raises(ValueError, match=r"projection of shape \(320, 4\), got \(320, 5\)"):
        load_feature_constants(network, constants_of(5))
