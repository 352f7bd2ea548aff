import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.view_average import average_views
from shared_model.data.lesions import Lesions


def _lesions(num_rows, seed=0):
    generator = np.random.default_rng(seed)
    has_image = torch.from_numpy(generator.random(num_rows) < 0.7)
    images = torch.from_numpy(generator.normal(size=(num_rows, 3)).astype(np.float32))
    clinical = torch.from_numpy(generator.integers(-1, 2, (num_rows, 2)).astype(np.float32))
    findings = torch.from_numpy(generator.integers(0, max(1, num_rows // 2), num_rows))
    lesions = Lesions(
        images=torch.where(has_image[:, None], images, torch.zeros(3)),
        has_image=has_image,
        clinical=clinical,
        labels=torch.from_numpy(generator.integers(0, 2, num_rows).astype(np.float32)),
        patients=findings // 2,
    )
    return lesions, findings


def test_two_views_share_their_mean_and_a_single_view_keeps_its_own():
    lesions = Lesions(
        images=torch.tensor([[1.0, 2.0], [5.0, 5.0], [3.0, 6.0]]),
        has_image=torch.ones(3, dtype=torch.bool),
        clinical=torch.tensor([[-1.0, 0.5], [1.0, 1.0], [1.0, 0.5]]),
        labels=torch.tensor([1.0, 0.0, 1.0]),
        patients=torch.tensor([0, 0, 0]),
    )
    averaged = average_views(lesions, torch.tensor([1, 0, 1]))
    assert averaged.images.tolist() == [[2, 4], [5, 5], [2, 4]]
    assert averaged.clinical.tolist() == [[0, 0.5], [1, 1], [0, 0.5]]
    assert averaged.labels.tolist() == [1, 0, 1]


def test_a_view_without_image_or_columns_borrows_and_does_not_dilute():
    lesions = Lesions(
        images=torch.tensor([[4.0], [0.0], [0.0]]),
        has_image=torch.tensor([True, False, False]),
        clinical=torch.tensor([[0.0], [1.0], [0.0]]),
        labels=torch.zeros(3),
        patients=torch.tensor([0, 0, 1]),
    )
    averaged = average_views(lesions, torch.tensor([0, 0, 1]))
    assert averaged.images.tolist() == [[4], [4], [0]]
    assert averaged.has_image.tolist() == [True, True, False]
    assert averaged.clinical.tolist() == [[1], [1], [0]]


@settings(max_examples=50)
@given(st.integers(0, 12), st.integers(0, 2**31))
def test_equals_a_loop_over_findings(num_rows, seed):
    lesions, findings = _lesions(num_rows, seed)
    averaged = average_views(lesions, findings)
    assert len(averaged) == num_rows
    assert torch.equal(averaged.labels, lesions.labels)
    for row in range(num_rows):
        mine = [i for i in range(num_rows) if findings[i] == findings[row]]
        images = [lesions.images[i].numpy() for i in mine if lesions.has_image[i]]
        clinical = [lesions.clinical[i].numpy() for i in mine if lesions.clinical[i].any()]
        np.testing.assert_allclose(averaged.images[row], np.mean(images, axis=0) if images else np.zeros(3), atol=1e-6)
        np.testing.assert_allclose(
            averaged.clinical[row], np.mean(clinical, axis=0) if clinical else np.zeros(2), atol=1e-6
        )
        assert averaged.has_image[row] == bool(images)


def test_removing_a_patient_changes_no_other_row():
    lesions, findings = _lesions(12, seed=3)
    others = lesions.patients != lesions.patients[0]
    kept = average_views(lesions.select(others), findings[others])
    together = average_views(lesions, findings).select(others)
    for field in dataclasses.fields(Lesions):
        assert torch.equal(getattr(kept, field.name), getattr(together, field.name))


def test_refuses_pixels_and_findings_of_two_patients():
    lesions, _ = _lesions(4)
    pixels = dataclasses.replace(lesions, images=torch.zeros(4, 1, 8, 8))
    with pytest.raises(ValueError, match=r"Expected images of shape \(4, 1, 8, 8\) == \(N, D\)"):
        average_views(pixels, torch.zeros(4, dtype=torch.int64))
    mixed = dataclasses.replace(lesions, patients=torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="Expected every finding to be of one patient"):
        average_views(mixed, torch.zeros(4, dtype=torch.int64))
