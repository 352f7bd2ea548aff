"""Each head against its formula in NumPy, in double precision, with and without a modality."""

import numpy as np
import pytest
import torch

from shared_model.network.heads import BIAS_INPUT, EarlyHead, LateHead, LogitLayer, MidHead, SingleHead

IMAGE_WIDTH, CLINICAL_WIDTH = 4, 3
HIDDEN_WIDTHS = [0, 5]
every_hidden_width = pytest.mark.parametrize("hidden_width", HIDDEN_WIDTHS)


def randomise(module, seed=0):
    """Return the module with random parameters, and these by name as float64 arrays."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module, {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def make_inputs(num_records=8, seed=1):
    """Return image and clinical vectors and their presence: all four combinations, twice."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(num_records, IMAGE_WIDTH, generator=generator)
    clinical = torch.randn(num_records, CLINICAL_WIDTH, generator=generator)
    has_image = torch.arange(num_records) % 2 == 0
    has_clinical = torch.arange(num_records) // 2 % 2 == 0
    return image, has_image, clinical, has_clinical


def embed(values, vectors, name="embedding"):
    """One hidden layer with tanh, or the vectors themselves where there is none."""
    if f"{name}.0.weight" not in values:
        return vectors
    return np.tanh(vectors @ values[f"{name}.0.weight"].T + values[f"{name}.0.bias"])


def logit(values, vectors, name="output"):
    weight = values[f"{name}.linear.weight"][0]
    return vectors @ weight[:-1] + BIAS_INPUT * weight[-1]


def as_arrays(*tensors):
    return [tensor.double().numpy() for tensor in tensors]


def assert_close(found, expected):
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_logit_layer_starts_at_zero_and_rescales_its_logits():
    vectors = make_inputs()[0]
    assert torch.equal(LogitLayer(IMAGE_WIDTH)(vectors), torch.zeros(8))
    layer, values = randomise(LogitLayer(IMAGE_WIDTH))
    expected = vectors.double().numpy() @ values["linear.weight"][0, :-1] + BIAS_INPUT * values["linear.weight"][0, -1]
    assert_close(layer(vectors), expected)
    layer.rescale(scale=-0.5, offset=3.0)
    assert_close(layer(vectors), 3 - 0.5 * expected)


@every_hidden_width
def test_a_single_head_is_left_with_its_bias_where_the_modality_is_missing(hidden_width):
    head, values = randomise(SingleHead(IMAGE_WIDTH, hidden_width=hidden_width))
    vectors, is_present, *_ = make_inputs()
    image, present = as_arrays(vectors, is_present)
    expected = logit(values, embed(values, image) * present[:, None])
    assert_close(head(vectors, is_present), expected)
    assert len(set(head(vectors, torch.zeros_like(is_present)).tolist())) == 1


@every_hidden_width
def test_early_fusion_joins_the_vectors_before_the_hidden_layer(hidden_width):
    head, values = randomise(EarlyHead(IMAGE_WIDTH, CLINICAL_WIDTH, hidden_width=hidden_width))
    inputs = make_inputs()
    image, has_image, clinical, has_clinical = as_arrays(*inputs)
    joint = np.concatenate((image * has_image[:, None], clinical * has_clinical[:, None]), axis=1)
    assert_close(head(*inputs), logit(values, embed(values, joint)))


@every_hidden_width
def test_mid_fusion_scales_and_shifts_the_image_by_the_clinical_vector(hidden_width):
    head, values = randomise(MidHead(IMAGE_WIDTH, CLINICAL_WIDTH, hidden_width=hidden_width))
    inputs = make_inputs()
    image, has_image, clinical, has_clinical = as_arrays(*inputs)
    image, clinical = embed(values, image, "image_embedding"), embed(values, clinical, "clinical_embedding")
    clinical = clinical * has_clinical[:, None]
    scale, shift = np.split(clinical @ values["modulation.weight"].T, 2, axis=1)
    modulated = (image * (1 + scale) + shift) * has_image[:, None]
    assert_close(head(*inputs), logit(values, np.concatenate((modulated, clinical), axis=1)))


@every_hidden_width
def test_late_fusion_weighs_the_logits_of_the_modalities_that_are_there(hidden_width):
    head, values = randomise(LateHead(IMAGE_WIDTH, CLINICAL_WIDTH, hidden_width=hidden_width))
    inputs = make_inputs()
    expected = []
    for image, has_image, clinical, has_clinical in zip(*as_arrays(*inputs), strict=True):
        weights = np.exp(values["decision.weight"]).squeeze() * (has_image, has_clinical)
        logits = [
            logit(values, embed(values, vector, f"{name}.embedding"), f"{name}.output")
            for name, vector in (("image", image), ("clinical", clinical))
        ]
        expected.append(weights @ logits / weights.sum() if weights.any() else 0.0)
    assert_close(head(*inputs), np.array(expected))
