"""Lesions grouped by patient: whose they are, in which order, and never split."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.training.patients import LesionsByPatient
from shared_model.data.lesions import Lesions


def lesions_of(patients):
    count = len(patients)
    return Lesions(
        images=torch.arange(2.0 * count).view(count, 2),
        has_image=torch.ones(count, dtype=torch.bool),
        clinical=torch.arange(float(count)).view(count, 1),
        labels=torch.arange(float(count)),
        patients=torch.tensor(patients, dtype=torch.long),
    )


def test_a_batch_holds_each_patients_own_lesions_in_the_order_asked_for():
    by_patient = LesionsByPatient.from_lesions(lesions_of([30, 10, 30, 20, 10, 30]))
    assert by_patient.sizes.tolist() == [2, 1, 3]
    batch = by_patient.batch(torch.tensor([2, 0]))
    assert batch.sizes.tolist() == [3, 2]
    assert batch.labels.tolist() == [0, 2, 5, 1, 4]
    assert batch.clinical.tolist() == [[0], [2], [5], [1], [4]]
    assert batch.images[:, 0].tolist() == [0, 4, 10, 2, 8]
    assert batch.patient_of_lesion.tolist() == [0, 0, 0, 1, 1]
    assert batch.weights.tolist() == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)
    assert [each.labels.tolist() for each in batch.single_patients()] == [[0, 2, 5], [1, 4]]
    assert [each.weights.tolist() for each in batch.single_patients()] == [pytest.approx([1 / 3] * 3), [0.5, 0.5]]


def test_no_patients_are_an_empty_batch():
    by_patient = LesionsByPatient.from_lesions(lesions_of([1, 2]))
    none = torch.zeros(0, dtype=torch.long)
    assert len(by_patient.batch(none).labels) == 0
    assert list(by_patient.batch(none).single_patients()) == []
    assert list(by_patient.batches(none, num_rows=3)) == []


def test_one_value_that_is_not_finite_marks_the_patient():
    for field in ("images", "clinical", "labels"):
        lesions = lesions_of([5, 4, 5])
        getattr(lesions, field).view(3, -1)[2, -1] = torch.inf
        assert LesionsByPatient.from_lesions(lesions).is_finite.tolist() == [True, False]


@given(sizes=st.lists(st.integers(1, 24), max_size=20), num_rows=st.integers(1, 60), data=st.data())
def test_batches_never_split_or_lose_a_patient(sizes, num_rows, data):
    patients = [patient for patient, size in enumerate(sizes) for _ in range(size)]
    lesions = lesions_of(data.draw(st.permutations(patients)))
    by_patient = LesionsByPatient.from_lesions(lesions)
    wanted = torch.tensor(data.draw(st.permutations(range(len(sizes)))), dtype=torch.long)
    batches = list(by_patient.batches(wanted, num_rows=num_rows))
    real_sizes = [batch.sizes[: len(batch.sizes) - batch.num_empty_rows].tolist() for batch in batches]
    assert [size for of_batch in real_sizes for size in of_batch] == [sizes[patient] for patient in wanted]
    rows = [label for batch in batches for label in batch.labels[: len(batch.labels) - batch.num_empty_rows].tolist()]
    assert lesions.patients[torch.tensor(rows, dtype=torch.long)].tolist() == [
        patient for patient in wanted.tolist() for _ in range(sizes[patient])
    ]
    for batch, of_batch in zip(batches, real_sizes, strict=True):
        # One shape for all, whoever is there; a patient with more lesions has a batch to herself.
        assert len(batch.labels) == num_rows * (-(-of_batch[0] // num_rows) if len(of_batch) == 1 else 1)
        assert batch.weights[len(batch.labels) - batch.num_empty_rows :].tolist() == [0] * batch.num_empty_rows
        assert sum(of_batch) + batch.num_empty_rows == len(batch.labels)
