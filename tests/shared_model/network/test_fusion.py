import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.decomposition import PCA
from torch.func import functional_call, grad, vmap
from torch.nn.functional import binary_cross_entropy_with_logits

from shared_model.config.choices import Backbone, Fusion, Modality
from shared_model.config.site_sections import ModelConfig
from shared_model.errors import ConfigError
from shared_model.network.fusion import (
    FusionNet,
    build_network,
    calibrate,
    constants_state,
    load_constants,
    load_trainable,
    trainable_state,
    unit_length,
)

WIDTH = 5
FUSIONS = list(Fusion)
HIDDEN_WIDTHS = [0, 7]
SHAPES = [
    *(("fusion", fusion, hidden) for fusion, hidden in itertools.product(FUSIONS, HIDDEN_WIDTHS)),
    *(("image", Fusion.EARLY, hidden) for hidden in HIDDEN_WIDTHS),
    *(("clinical", Fusion.EARLY, hidden) for hidden in HIDDEN_WIDTHS),
]
every_shape = pytest.mark.parametrize(("modality", "fusion", "hidden_width"), SHAPES)
every_fusion = pytest.mark.parametrize(
    ("fusion", "hidden_width"), [shape[1:] for shape in SHAPES if shape[0] == "fusion"]
)


def _model(modality="fusion", fusion=Fusion.EARLY, hidden_width=0, components=0, backbone="efficientnet_lite0"):
    return ModelConfig(
        modality=Modality(modality),
        fusion=Fusion(fusion),
        backbone=Backbone(backbone),
        image_components=components,
        hidden_width=hidden_width,
    )


def _records(num_records, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num_records, 320, generator=generator)
    clinical = torch.rand(num_records, WIDTH, generator=generator) * 2 - 1
    return images, torch.ones(num_records, dtype=torch.bool), clinical


def _randomised(network: FusionNet, seed=0) -> FusionNet:
    """As after some training: no layer is zero any more."""
    generator = np.random.default_rng(seed)
    state = trainable_state(network)
    load_trainable(network, {n: a + generator.normal(0, 0.5, a.shape).astype(np.float32) for n, a in state.items()})
    return network


@every_shape
def test_logits_have_one_entry_a_record_and_start_at_zero(modality, fusion, hidden_width):
    network = build_network(_model(modality, fusion, hidden_width), WIDTH, seed=0)
    logits = network(*_records(6))
    assert logits.shape == (6,)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, torch.zeros(6))
    assert network(*_records(0)).shape == (0,)


@every_shape
def test_gradient_reaches_every_parameter_and_none_is_stuck(modality, fusion, hidden_width):
    network = build_network(_model(modality, fusion, hidden_width), WIDTH, seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    records, labels = _records(12), (torch.arange(12) % 3 == 0).float()
    has_moved = dict.fromkeys(trainable_state(network), False)
    for _ in range(3):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(*records), labels).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            has_moved[name] |= bool(parameter.grad.abs().sum() > 0)
        optimizer.step()
    assert all(has_moved.values()), has_moved


@every_shape
def test_gradients_mapped_over_patients_equal_a_loop(modality, fusion, hidden_width):
    network = _randomised(build_network(_model(modality, fusion, hidden_width), WIDTH, seed=0))
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    images, has_image, clinical = _records(12)
    has_image[::4] = False
    clinical[1::5] = 0
    bags = [tensor.unflatten(0, (4, 3)) for tensor in (images, has_image, clinical)]
    labels = (torch.arange(12) % 2).float().unflatten(0, (4, 3))

    def loss(values, *bag_and_labels):
        *bag, bag_labels = bag_and_labels
        return binary_cross_entropy_with_logits(functional_call(network, (values, buffers), tuple(bag)), bag_labels)

    mapped = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0))(parameters, *bags, labels)
    for patient in range(4):
        network.zero_grad()
        binary_cross_entropy_with_logits(network(*(bag[patient] for bag in bags)), labels[patient]).backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(mapped[name][patient], parameter.grad, rtol=1e-4, atol=1e-6)


def test_gradients_of_a_trainable_encoder_map_over_patients():
    network = _randomised(build_network(_model(fusion="mid", backbone="small_cnn"), WIDTH, seed=0))
    parameters = dict(network.named_parameters())
    generator = torch.Generator().manual_seed(0)
    bags = torch.rand(2, 2, 1, 32, 32, generator=generator), torch.tensor([[True, False], [True, True]])
    clinical = torch.rand(2, 2, WIDTH, generator=generator)

    def loss(values, *bag):
        return functional_call(network, values, bag).square().sum()

    mapped = vmap(grad(loss), in_dims=(None, 0, 0, 0))(parameters, *bags, clinical)
    for patient in range(2):
        looped = grad(loss)(parameters, bags[0][patient], bags[1][patient], clinical[patient])
        for name, gradient in looped.items():
            torch.testing.assert_close(mapped[name][patient], gradient, rtol=1e-2, atol=1e-3)


@every_shape
def test_rows_do_not_see_each_other(modality, fusion, hidden_width):
    network = _randomised(build_network(_model(modality, fusion, hidden_width), WIDTH, seed=0))
    records = _records(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(*(tensor[order] for tensor in records)), network(*records)[order])
    torch.testing.assert_close(network(*(tensor[4:5] for tensor in records)), network(*records)[4:5])


@every_fusion
def test_without_an_image_only_the_clinical_branch_speaks(fusion, hidden_width):
    network = _randomised(build_network(_model("fusion", fusion, hidden_width), WIDTH, seed=0))
    images, has_image, clinical = _records(8)
    with_other_images = network(images + 100, ~has_image, clinical)
    assert torch.equal(network(torch.zeros_like(images), ~has_image, clinical), with_other_images)
    assert not torch.allclose(network(images, has_image, clinical), with_other_images)
    assert with_other_images.std() > 0


@every_fusion
def test_without_clinical_data_only_the_image_branch_speaks(fusion, hidden_width):
    network = _randomised(build_network(_model("fusion", fusion, hidden_width), WIDTH, seed=0))
    images, has_image, clinical = _records(8)
    nothing = torch.zeros_like(clinical)
    image_only = network(images, has_image, nothing)
    assert image_only.std() > 0
    assert not torch.allclose(image_only, network(images, has_image, clinical))
    neither = network(images, ~has_image, nothing)
    assert torch.equal(neither, neither[:1].expand(8))
    assert torch.isfinite(neither).all()


def test_linear_fusion_with_one_modality_missing_equals_the_network_of_the_other():
    images, has_image, clinical = _records(8)
    image_net = _randomised(build_network(_model("image"), WIDTH, seed=0), seed=1)
    clinical_net = _randomised(build_network(_model("clinical"), WIDTH, seed=0), seed=2)
    image_state, clinical_state = trainable_state(image_net), trainable_state(clinical_net)
    without_image = clinical_net(images, ~has_image, clinical)
    without_clinical = image_net(images, has_image, clinical)

    late = build_network(_model(fusion="late"), WIDTH, seed=0)
    state = {name.replace("head.", "head.image."): array for name, array in image_state.items()}
    state |= {name.replace("head.", "head.clinical."): array for name, array in clinical_state.items()}
    load_trainable(late, state | {"head.decision": np.array([0.3, -1.2], dtype=np.float32)})
    torch.testing.assert_close(late(images, ~has_image, clinical), without_image)
    torch.testing.assert_close(late(images, has_image, 0 * clinical), without_clinical)
    assert torch.equal(late(images, ~has_image, 0 * clinical), torch.zeros(8))

    of_image, of_clinical = image_state["head.output.linear.weight"], clinical_state["head.output.linear.weight"]
    for fusion in ("early", "mid"):
        joint = _randomised(build_network(_model(fusion=fusion), WIDTH, seed=0))
        for bias, logits, inputs in (
            (of_clinical[:, -1:], without_image, (images, ~has_image, clinical)),
            (of_image[:, -1:], without_clinical, (images, has_image, 0 * clinical)),
        ):
            weight = np.concatenate((of_image[:, :-1], of_clinical[:, :-1], bias), axis=1)
            load_trainable(joint, trainable_state(joint) | {"head.output.linear.weight": weight})
            torch.testing.assert_close(joint(*inputs), logits)


def test_late_fusion_is_the_weighted_mean_of_both_logits():
    images, has_image, clinical = _records(8)
    late = _randomised(build_network(_model(fusion="late"), WIDTH, seed=0))
    image, alone = late(images, has_image, 0 * clinical), late(images, ~has_image, clinical)
    first, second = np.exp(trainable_state(late)["head.decision"])
    expected = (first * image + second * alone) / (first + second)
    torch.testing.assert_close(late(images, has_image, clinical), expected)


@pytest.mark.parametrize("hidden_width", HIDDEN_WIDTHS)
def test_a_single_branch_has_no_parameter_of_the_other(hidden_width):
    images, has_image, clinical = _records(4)
    image_net = _randomised(build_network(_model("image", hidden_width=hidden_width), WIDTH, seed=0))
    assert torch.equal(image_net(images, has_image, clinical), image_net(images, has_image, clinical[:, :0]))
    assert build_network(_model("image"), 0, seed=0)(images, has_image, clinical).shape == (4,)
    clinical_net = _randomised(build_network(_model("clinical", hidden_width=hidden_width), WIDTH, seed=0))
    assert torch.equal(clinical_net(images, has_image, clinical), clinical_net(images[:, :0], ~has_image, clinical))
    assert not list(clinical_net.buffers())
    for network, width in ((image_net, 320), (clinical_net, WIDTH)):
        layers = (width * hidden_width + hidden_width) if hidden_width else 0
        expected = layers + (hidden_width or width) + 1
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_the_seed_decides_the_weights_and_the_global_generator_stays():
    model = _model(fusion="mid", hidden_width=6, backbone="small_cnn")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = trainable_state(build_network(model, WIDTH, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again = trainable_state(build_network(model, WIDTH, seed=1))
    other = trainable_state(build_network(model, WIDTH, seed=2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


@given(arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_vectors_get_unit_length_and_keep_their_direction(values):
    lengths = np.linalg.norm(values.astype(np.float64), axis=1)
    scaled = unit_length(torch.from_numpy(values)).double().numpy()
    is_long = lengths > 1e-5
    np.testing.assert_allclose(np.linalg.norm(scaled[is_long], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(scaled[is_long] * lengths[is_long, None], values[is_long], rtol=1e-4, atol=1e-6)
    assert (np.linalg.norm(scaled, axis=1) <= 1 + 1e-5).all()


def test_a_zero_vector_stays_zero_with_a_finite_gradient():
    vector = torch.zeros(1, 4, requires_grad=True)
    unit_length(vector).sum().backward()
    assert torch.equal(unit_length(vector), vector)
    assert torch.isfinite(vector.grad).all()


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from(FUSIONS))
def test_the_gradient_of_a_record_is_bounded(seed, fusion):
    # Linear heads: |dL/dlogit| <= 1, image length 1, clinical length <= sqrt(5) / 2, bias 0.1 (late: one bias each).
    network = build_network(_model(fusion=fusion), WIDTH, seed=0)
    images, has_image, clinical = _records(1, seed)
    binary_cross_entropy_with_logits(network(1e4 * images, has_image, clinical), torch.ones(1)).backward()
    norm = torch.stack([parameter.grad.norm() for parameter in network.parameters()]).norm()
    assert norm <= np.sqrt(1 + 5 / 4 + 2 * 0.1**2)


@pytest.mark.parametrize("modality", ["image", "clinical", "fusion"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_logits_are_rescaled_in_place(modality, fusion):
    network, records = _randomised(build_network(_model(modality, fusion=fusion), WIDTH, seed=0)), _records(6)
    present = (records[0], torch.ones(6, dtype=torch.bool), records[2])
    before = network(*present).detach()
    network.rescale_logits(scale=0.3, offset=-1.5)
    torch.testing.assert_close(network(*present).detach(), 0.3 * before - 1.5)


def _correlated(num_rows, width=12):
    generator = np.random.default_rng(5)
    return (generator.normal(size=(num_rows, width)) @ generator.normal(size=(width, width)) + 3).astype(np.float32)


def test_components_are_those_of_scikit_learn_on_the_scaled_features():
    features = _correlated(60)
    constants = calibrate(torch.from_numpy(features), num_components=4)
    variances = features.astype(np.float64).var(axis=0, ddof=1)
    scale = np.sqrt(variances + variances.mean())
    expected = PCA(n_components=4, svd_solver="full").fit_transform(features / scale)
    scores = (features - constants.mean) @ constants.projection
    signs = np.sign((scores * expected).sum(axis=0))
    np.testing.assert_allclose(scores, expected * signs, rtol=1e-3, atol=1e-4)
    directions = constants.projection * scale[:, None]
    assert (directions[np.abs(directions).argmax(axis=0), range(4)] > 0).all()


def test_without_components_each_feature_is_scaled_by_its_own_deviation():
    features = _correlated(60)
    constants = calibrate(torch.from_numpy(features), num_components=0)
    variances = features.var(axis=0, ddof=1)
    expected = (features - features.mean(axis=0)) / np.sqrt(variances + variances.mean())
    np.testing.assert_allclose((features - constants.mean) @ constants.projection, expected, rtol=1e-3, atol=1e-4)


def test_few_lesions_do_not_blow_up_new_ones():
    features = _correlated(200, width=100)
    constants = calibrate(torch.from_numpy(features[:9]), num_components=8)
    scores = (features[9:] - constants.mean) @ constants.projection
    assert np.abs(scores).max() < 10


@pytest.mark.parametrize(
    ("features", "num_components", "error", "message"),
    [
        (np.ones((1, 3)), 0, ConfigError, r"public lesions with an image=1 >= 2"),
        (np.eye(5), 5, ConfigError, r"=5 >= 6 for model.image_components=5: raise data.public_fraction"),
        (np.eye(5)[:, :3], 4, ConfigError, r"model.image_components=4 <= 3 features"),
        (np.full((5, 3), np.nan), 0, ValueError, "finite features"),
        (np.ones((5, 3)), 0, ValueError, "differ between lesions"),
    ],
)
def test_calibration_refuses(features, num_components, error, message):
    with pytest.raises(error, match=message):
        calibrate(torch.from_numpy(features), num_components=num_components)


def test_components_need_constants_and_say_how_to_get_them():
    network = build_network(_model(components=4), WIDTH, seed=0)
    for use in (lambda: network(*_records(2)), lambda: constants_state(network)):
        with pytest.raises(ConfigError, match=r"set what calibrate\(\) returns .* or choose model.image_components=0"):
            use()


def test_constants_travel_apart_from_the_parameters():
    model, records = _model(fusion="mid", components=4), _records(20)
    server = _randomised(build_network(model, WIDTH, seed=0))
    server.set_constants(calibrate(records[0] * 3 + 1, num_components=4))
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
        build_network(_model("clinical"), WIDTH, seed=0),
        build_network(_model("image", backbone="small_cnn"), WIDTH, seed=0),
    ):
        assert constants_state(network) == {}
        load_constants(network, {})
        with pytest.raises(ValueError, match=r"Expected arrays \[\], got \['image_standardisation.mean'"):
            network.set_constants(calibrate(torch.from_numpy(_correlated(9)), num_components=0))


def test_states_are_copies():
    network = build_network(_model(), WIDTH, seed=0)
    for state in (trainable_state(network), constants_state(network)):
        for array in state.values():
            array.fill(1)
    assert torch.equal(network(*_records(3)), torch.zeros(3))
    assert torch.equal(network.get_buffer("image_standardisation.mean"), torch.zeros(320))


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_other_names_or_shapes_are_refused_and_change_nothing(change):
    network = build_network(_model(fusion="mid"), WIDTH, seed=0)
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
    network = build_network(_model(components=4), WIDTH, seed=0)
    with pytest.raises(ValueError, match=r"projection of shape \(320, 4\), got \(320, 5\)"):
        network.set_constants(calibrate(_records(20)[0], num_components=5))


def test_impossible_networks_are_refused():
    with pytest.raises(ConfigError, match=r"clinical_width=0 >= 1 with model.modality=fusion"):
        build_network(_model(), 0, seed=0)
    with pytest.raises(ConfigError, match=r"model.image_components=321 <= 320"):
        build_network(_model(components=321), WIDTH, seed=0)


def _accuracy(model, images, clinical, labels):
    network = build_network(model, WIDTH, seed=0)
    has_image = torch.ones(len(images), dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(images, has_image, clinical), labels).backward()
        optimizer.step()
    return float(((network(images, has_image, clinical) > 0) == labels.bool()).float().mean())


def _toy(rule, num_records=400):
    """A sign in the image, a value in the clinical vector, and too little noise to learn the records by heart."""
    images, _, clinical = _records(num_records)
    images[:, 0] = 5 * images[:, 0].sign()
    images[:, 3:] = 0
    return images, clinical, rule(images[:, 0].sign(), clinical[:, 0]).float()


def _sum_rule(image, clinical):
    return image + 2 * clinical > 0


def _interaction_rule(image, clinical):
    return image * clinical > 0


@every_fusion
def test_every_fusion_learns_a_sum(fusion, hidden_width):
    assert _accuracy(_model("fusion", fusion, hidden_width), *_toy(_sum_rule)) > 0.93


@pytest.mark.parametrize("modality", ["image", "clinical"])
def test_neither_modality_knows_the_sum_alone(modality):
    assert _accuracy(_model(modality), *_toy(_sum_rule)) < 0.85


@pytest.mark.parametrize(("fusion", "hidden_width"), [("mid", 0), ("mid", 7), ("early", 7)])
def test_mid_fusion_and_a_joint_hidden_layer_learn_an_interaction(fusion, hidden_width):
    assert _accuracy(_model("fusion", fusion, hidden_width), *_toy(_interaction_rule)) > 0.9


@pytest.mark.parametrize(("fusion", "hidden_width"), [("early", 0), ("late", 7)])
def test_an_additive_fusion_cannot_learn_an_interaction(fusion, hidden_width):
    assert _accuracy(_model("fusion", fusion, hidden_width), *_toy(_interaction_rule)) < 0.85
