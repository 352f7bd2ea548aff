"""The fusion network: shapes, gradients, missing modalities, and what each fusion can learn."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, grad, vmap
from torch.nn.functional import binary_cross_entropy_with_logits

from shared_model.config.choices import Fusion
from shared_model.errors import ConfigError
from shared_model.network.fusion import build_network
from shared_model.network.state import load_trainable, trainable_state
from tests.small_networks import WIDTH, make_model, make_records, randomise

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


@every_shape
def test_logits_have_one_entry_a_record_and_start_at_zero(modality, fusion, hidden_width):
    network = build_network(make_model(modality, fusion, hidden_width), WIDTH, seed=0)
    logits = network(*make_records(6))
    assert logits.shape == (6,)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, torch.zeros(6))
    assert network(*make_records(0)).shape == (0,)


@every_shape
def test_gradient_reaches_every_parameter_and_none_is_stuck(modality, fusion, hidden_width):
    network = build_network(make_model(modality, fusion, hidden_width), WIDTH, seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    records, labels = make_records(12), (torch.arange(12) % 3 == 0).float()
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
    network = randomise(build_network(make_model(modality, fusion, hidden_width), WIDTH, seed=0))
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    images, has_image, clinical = make_records(12)
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
    network = randomise(build_network(make_model(fusion="mid", backbone="small_cnn"), WIDTH, seed=0))
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
    network = randomise(build_network(make_model(modality, fusion, hidden_width), WIDTH, seed=0))
    records = make_records(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(*(tensor[order] for tensor in records)), network(*records)[order])
    torch.testing.assert_close(network(*(tensor[4:5] for tensor in records)), network(*records)[4:5])


@every_fusion
def test_without_an_image_only_the_clinical_branch_speaks(fusion, hidden_width):
    network = randomise(build_network(make_model("fusion", fusion, hidden_width), WIDTH, seed=0))
    images, has_image, clinical = make_records(8)
    with_other_images = network(images + 100, ~has_image, clinical)
    assert torch.equal(network(torch.zeros_like(images), ~has_image, clinical), with_other_images)
    assert not torch.allclose(network(images, has_image, clinical), with_other_images)
    assert with_other_images.std() > 0


@every_fusion
def test_without_clinical_data_only_the_image_branch_speaks(fusion, hidden_width):
    network = randomise(build_network(make_model("fusion", fusion, hidden_width), WIDTH, seed=0))
    images, has_image, clinical = make_records(8)
    nothing = torch.zeros_like(clinical)
    image_only = network(images, has_image, nothing)
    assert image_only.std() > 0
    assert not torch.allclose(image_only, network(images, has_image, clinical))
    neither = network(images, ~has_image, nothing)
    assert torch.equal(neither, neither[:1].expand(8))
    assert torch.isfinite(neither).all()


def test_linear_fusion_with_one_modality_missing_equals_the_network_of_the_other():
    images, has_image, clinical = make_records(8)
    image_net = randomise(build_network(make_model("image"), WIDTH, seed=0), seed=1)
    clinical_net = randomise(build_network(make_model("clinical"), WIDTH, seed=0), seed=2)
    image_state, clinical_state = trainable_state(image_net), trainable_state(clinical_net)
    without_image = clinical_net(images, ~has_image, clinical)
    without_clinical = image_net(images, has_image, clinical)

    late = build_network(make_model(fusion="late"), WIDTH, seed=0)
    state = {name.replace("head.", "head.image."): array for name, array in image_state.items()}
    state |= {name.replace("head.", "head.clinical."): array for name, array in clinical_state.items()}
    load_trainable(late, state | {"head.decision.weight": np.array([[0.3], [-1.2]], dtype=np.float32)})
    torch.testing.assert_close(late(images, ~has_image, clinical), without_image)
    torch.testing.assert_close(late(images, has_image, 0 * clinical), without_clinical)
    assert torch.equal(late(images, ~has_image, 0 * clinical), torch.zeros(8))

    of_image, of_clinical = image_state["head.output.linear.weight"], clinical_state["head.output.linear.weight"]
    for fusion in ("early", "mid"):
        joint = randomise(build_network(make_model(fusion=fusion), WIDTH, seed=0))
        for bias, logits, inputs in (
            (of_clinical[:, -1:], without_image, (images, ~has_image, clinical)),
            (of_image[:, -1:], without_clinical, (images, has_image, 0 * clinical)),
        ):
            weight = np.concatenate((of_image[:, :-1], of_clinical[:, :-1], bias), axis=1)
            load_trainable(joint, trainable_state(joint) | {"head.output.linear.weight": weight})
            torch.testing.assert_close(joint(*inputs), logits)


def test_late_fusion_is_the_weighted_mean_of_both_logits():
    images, has_image, clinical = make_records(8)
    late = randomise(build_network(make_model(fusion="late"), WIDTH, seed=0))
    image, alone = late(images, has_image, 0 * clinical), late(images, ~has_image, clinical)
    first, second = np.exp(trainable_state(late)["head.decision.weight"]).squeeze()
    expected = (first * image + second * alone) / (first + second)
    torch.testing.assert_close(late(images, has_image, clinical), expected)


@pytest.mark.parametrize("hidden_width", HIDDEN_WIDTHS)
def test_a_single_branch_has_no_parameter_of_the_other(hidden_width):
    images, has_image, clinical = make_records(4)
    image_net = randomise(build_network(make_model("image", hidden_width=hidden_width), WIDTH, seed=0))
    assert torch.equal(image_net(images, has_image, clinical), image_net(images, has_image, clinical[:, :0]))
    assert build_network(make_model("image"), 0, seed=0)(images, has_image, clinical).shape == (4,)
    clinical_net = randomise(build_network(make_model("clinical", hidden_width=hidden_width), WIDTH, seed=0))
    assert torch.equal(clinical_net(images, has_image, clinical), clinical_net(images[:, :0], ~has_image, clinical))
    assert not list(clinical_net.buffers())
    for network, width in ((image_net, 320), (clinical_net, WIDTH)):
        layers = (width * hidden_width + hidden_width) if hidden_width else 0
        expected = layers + (hidden_width or width) + 1
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_the_seed_decides_the_weights_and_the_global_generator_stays():
    model = make_model(fusion="mid", hidden_width=6, backbone="small_cnn")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = trainable_state(build_network(model, WIDTH, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again = trainable_state(build_network(model, WIDTH, seed=1))
    other = trainable_state(build_network(model, WIDTH, seed=2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from(FUSIONS))
def test_the_gradient_of_a_record_is_bounded(seed, fusion):
    # Linear heads: |dL/dlogit| <= 1, image length 1, clinical length <= sqrt(5) / 2, bias 0.1 (late: one bias each).
    network = build_network(make_model(fusion=fusion), WIDTH, seed=0)
    images, has_image, clinical = make_records(1, seed)
    binary_cross_entropy_with_logits(network(1e4 * images, has_image, clinical), torch.ones(1)).backward()
    norm = torch.stack([parameter.grad.norm() for parameter in network.parameters()]).norm()
    assert norm <= np.sqrt(1 + 5 / 4 + 2 * 0.1**2)


@pytest.mark.parametrize("modality", ["image", "clinical", "fusion"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_logits_are_rescaled_in_place(modality, fusion):
    network, records = randomise(build_network(make_model(modality, fusion=fusion), WIDTH, seed=0)), make_records(6)
    present = (records[0], torch.ones(6, dtype=torch.bool), records[2])
    before = network(*present).detach()
    network.rescale_logits(scale=0.3, offset=-1.5)
    torch.testing.assert_close(network(*present).detach(), 0.3 * before - 1.5)


def test_impossible_networks_are_refused():
    with pytest.raises(ConfigError, match=r"clinical_width=0 >= 1 with model.modality=fusion"):
        build_network(make_model(), 0, seed=0)
    with pytest.raises(ConfigError, match=r"model.image_components=321 <= 320"):
        build_network(make_model(components=321), WIDTH, seed=0)


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
    images, _, clinical = make_records(num_records)
    images[:, 0] = 5 * images[:, 0].sign()
    images[:, 3:] = 0
    return images, clinical, rule(images[:, 0].sign(), clinical[:, 0]).float()


def _sum_rule(image, clinical):
    return image + 2 * clinical > 0


def _interaction_rule(image, clinical):
    return image * clinical > 0


@every_fusion
def test_every_fusion_learns_a_sum(fusion, hidden_width):
    assert _accuracy(make_model("fusion", fusion, hidden_width), *_toy(_sum_rule)) > 0.93


@pytest.mark.parametrize("modality", ["image", "clinical"])
def test_neither_modality_knows_the_sum_alone(modality):
    assert _accuracy(make_model(modality), *_toy(_sum_rule)) < 0.85


@pytest.mark.parametrize(("fusion", "hidden_width"), [("mid", 0), ("mid", 7), ("early", 7)])
def test_mid_fusion_and_a_joint_hidden_layer_learn_an_interaction(fusion, hidden_width):
    assert _accuracy(make_model("fusion", fusion, hidden_width), *_toy(_interaction_rule)) > 0.9


@pytest.mark.parametrize(("fusion", "hidden_width"), [("early", 0), ("late", 7)])
def test_an_additive_fusion_cannot_learn_an_interaction(fusion, hidden_width):
    assert _accuracy(make_model("fusion", fusion, hidden_width), *_toy(_interaction_rule)) < 0.85
