"""The sum of the patients' moments: what each adds is bounded whatever is sent, and the noise is that of the plan."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.moment_sum import moment_sum, noised_moment_sum
from client.training.noise import NoiseGenerator
from shared_model.config.composition import compose
from shared_model.data.lesions import Lesions
from shared_model.network.fusion import build_network
from shared_model.network.state import load_constants
from shared_model.privacy.patient_moments import SECOND_WEIGHT

WIDTH, COMPONENTS, FEATURES = 3, 2, 320
INPUTS = COMPONENTS + WIDTH + 1
LARGEST = float(np.finfo(np.float32).max)


@pytest.fixture(scope="module")
def model():
    return compose(["preset=smoke", "model.image_components=2"]).model


@pytest.fixture(scope="module")
def network(model):
    return network_of(model, seed=0)


def network_of(model, *, seed, scale=1.0):
    network, generator = build_network(model, WIDTH, seed=0), np.random.default_rng(seed)
    shapes = {"mean": (FEATURES,), "projection": (FEATURES, COMPONENTS)}
    with np.errstate(over="ignore"):
        constants = {name: np.float32(scale * generator.normal(size=shape)) for name, shape in shapes.items()}
    load_constants(network, {f"image_standardisation.{name}": np.nan_to_num(a) for name, a in constants.items()})
    return network


def lesions_of(patients, *, seed=0, has_image=None, clinical=None, scale=1.0):
    generator, count = np.random.default_rng(seed), len(patients)
    shown = np.ones(count, bool) if has_image is None else np.array(has_image, bool)
    images = scale * generator.random((count, FEATURES)) * shown[:, None]
    cells = generator.uniform(-1, 1, (count, WIDTH)) if clinical is None else np.reshape(clinical, (count, WIDTH))
    return Lesions(
        images=torch.tensor(images, dtype=torch.float32),
        has_image=torch.tensor(shown),
        clinical=torch.tensor(cells, dtype=torch.float32),
        labels=torch.tensor(generator.integers(0, 2, count), dtype=torch.float32),
        patients=torch.tensor(patients, dtype=torch.int64),
    )


def added_up_by_hand(network, lesions):
    """Patient by patient, from constants and rows, with loops."""
    mean, projection = (values.double().numpy() for values in network.image_standardisation.constants())
    total = 0.0
    for patient in sorted(set(lesions.patients.tolist())):
        vectors = []
        for row in np.flatnonzero(lesions.patients.numpy() == patient):
            image = (lesions.images[row].double().numpy() - mean) @ projection
            image = image / np.linalg.norm(image) * bool(lesions.has_image[row])
            x = [*image, *(0.5 * lesions.clinical[row].double().numpy()), 0.1]
            y = 1 if lesions.labels[row] else -1
            triangle = [
                SECOND_WEIGHT * x[i] * x[j] * (1 if i == j else 2**0.5) for i in range(INPUTS) for j in range(i, INPUTS)
            ]
            vectors.append([*triangle, *(y * entry for entry in x)])
        vector = np.mean(vectors, axis=0)
        total = total + vector / max(1.0, np.linalg.norm(vector))
    return total


def test_by_hand(network):
    lesions = lesions_of([4, 4, 1, 7, 1, 4], has_image=[1, 0, 1, 0, 1, 1])
    np.testing.assert_allclose(moment_sum(network, lesions).numpy(), added_up_by_hand(network, lesions), atol=1e-5)


@st.composite
def cohorts(draw):
    count = draw(st.integers(1, 9))
    entries = st.sampled_from([0.0, 1.0, -1.0, 0.25, 1e-30])
    cells = draw(st.lists(entries, min_size=count * WIDTH, max_size=count * WIDTH))
    patients = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    shown = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    scale = draw(st.sampled_from([1.0, 1e-20, 1e30, LARGEST]))
    return lesions_of(patients, seed=draw(st.integers(0, 99)), has_image=shown, clinical=cells, scale=scale)


@settings(max_examples=200, deadline=None)
@given(cohorts(), st.sampled_from([1.0, 1e4, 1e-38, LARGEST]), st.integers(0, 9))
def test_a_patient_moves_the_sum_by_one_at_most_whatever_features_and_constants(model, lesions, scale, seed):
    network = network_of(model, seed=seed, scale=scale)
    whole = moment_sum(network, lesions)
    assert torch.isfinite(whole).all()
    for patient in set(lesions.patients.tolist()):
        rest = moment_sum(network, lesions.select(lesions.patients != patient))
        assert float((whole - rest).norm()) <= 1 + 1e-9


def test_the_bound_is_reached(network):
    lesions = lesions_of([0, 1], clinical=np.ones((2, WIDTH)))
    alone = moment_sum(network, lesions.select(lesions.patients == 0))
    assert float((moment_sum(network, lesions) - alone).norm()) == pytest.approx(1, abs=1e-9)


def test_nobody_adds_up_to_zero(network):
    assert moment_sum(network, lesions_of([])).tolist() == [0.0] * (INPUTS * (INPUTS + 1) // 2 + INPUTS)


@pytest.mark.parametrize("factor", [1.0, 2 / 3, 3 / 2])
def test_noise_has_the_standard_deviation_of_the_plan(network, factor):
    """With 5,400 draws the right scale is accepted, and two thirds or three halves of it are not."""
    lesions, noise = lesions_of([0, 1, 1]), NoiseGenerator.from_seed(0)
    exact = moment_sum(network, lesions)
    draws = [noised_moment_sum(network, lesions, 5.0 * factor, noise).double() - exact for _ in range(200)]
    found = float(torch.stack(draws).std())
    assert (abs(found / 5.0 - 1) < 0.05) == (factor == 1.0)


def test_the_noised_sum_is_rounded_once(network):
    assert noised_moment_sum(network, lesions_of([0]), 1.0, NoiseGenerator.from_seed(0)).dtype == torch.float32
