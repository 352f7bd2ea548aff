"""Lesion tensors: valid or not made, and a file that comes back equal or not at all."""

import dataclasses
import stat

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from shared_model.data.lesions import Lesions
from shared_model.errors import DataError
from shared_model.system.files import write_atomically

NAMES = ("images", "has_image", "clinical", "labels", "patients")


def tensors_of(num_lesions, image_shape=(3,), num_columns=2):
    generator = torch.Generator().manual_seed(num_lesions)
    return {
        "images": torch.rand(num_lesions, *image_shape, generator=generator),
        "has_image": torch.arange(num_lesions) % 2 == 0,
        "clinical": torch.rand(num_lesions, num_columns, generator=generator),
        "labels": (torch.arange(num_lesions) % 2).float(),
        "patients": torch.arange(num_lesions) // 2,
    }


def lesions_of(*args, **kwargs):
    return Lesions(**tensors_of(*args, **kwargs))


def assert_equal(one, other):
    for name in NAMES:
        assert getattr(one, name).dtype == getattr(other, name).dtype
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_counts():
    lesions = lesions_of(5)
    assert (len(lesions), lesions.num_patients) == (5, 3)
    assert (len(lesions_of(0)), lesions_of(0).num_patients) == (0, 0)


def test_selection_by_mask_and_by_index_keeps_rows_together_and_patient_numbers():
    lesions = lesions_of(6)
    by_mask = lesions.select(torch.tensor([False, True, False, False, True, True]))
    by_index = lesions.select(torch.tensor([1, 4, 5]))
    assert_equal(by_mask, by_index)
    assert by_mask.patients.tolist() == [0, 2, 2]
    assert torch.equal(by_mask.images, lesions.images[[1, 4, 5]])
    assert len(lesions.select(torch.zeros(6, dtype=torch.bool))) == 0


def test_lesions_cannot_be_reassigned():
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'labels'"):
        lesions_of(2).labels = torch.zeros(2)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_as_many_rows(name):
    tensors = tensors_of(4)
    tensors[name] = tensors[name][:3]
    with pytest.raises(ValueError, match=rf"Expected equally many rows in every tensor, got .*'{name}': 3"):
        Lesions(**tensors)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_its_type(name):
    tensors = tensors_of(4)
    tensors[name] = tensors[name].to(torch.float64)
    with pytest.raises(ValueError, match=rf"Expected {name} of torch\.\w+, got torch\.float64"):
        Lesions(**tensors)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_its_dimensions(name):
    tensors = tensors_of(4)
    tensors[name] = tensors[name].reshape(4, -1, 1)
    with pytest.raises(ValueError, match=rf"Expected {name} of \(.*\) dimensions, got 3\."):
        Lesions(**tensors)


@settings(max_examples=30)
@given(st.integers(0, 5), st.sampled_from([(0,), (3,), (1, 4, 4)]), st.integers(0, 3))
def test_file_round_trip(tmp_path_factory, num_lesions, image_shape, num_columns):
    path = tmp_path_factory.mktemp("lesions") / "a.safetensors"
    lesions = lesions_of(num_lesions, image_shape, num_columns)
    path.write_bytes(lesions.to_bytes())
    assert_equal(Lesions.load(path), lesions)


def test_equal_lesions_are_equal_bytes():
    assert lesions_of(4).to_bytes() == lesions_of(4).to_bytes()
    rows = torch.tensor([3, 2, 1, 0])
    assert lesions_of(4).select(rows).select(rows).to_bytes() == lesions_of(4).to_bytes()


def test_lesions_go_to_disk_for_the_owner_only(tmp_path):
    write_atomically(tmp_path / "a.safetensors", lesions_of(4).to_bytes())
    assert_equal(Lesions.load(tmp_path / "a.safetensors"), lesions_of(4))
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o600


def without(name):
    tensors = tensors_of(4)
    del tensors[name]
    return save(tensors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.safetensors: "),
        (b"\0" * 64, "a.safetensors: "),
        (b"\xff" * 64, "a.safetensors: "),
        (lesions_of(4).to_bytes()[:-1], "a.safetensors: "),
        (lesions_of(4).to_bytes()[:20], "a.safetensors: "),
        (b"\x80\x04K\x01.", "a.safetensors: "),
        (without("labels"), "missing 1 required keyword-only argument: 'labels'"),
        (save(tensors_of(4) | {"extra": torch.zeros(1)}), "unexpected keyword argument 'extra'"),
        (save(tensors_of(4) | {"labels": torch.zeros(3)}), "Expected equally many rows"),
        (save(tensors_of(4) | {"labels": torch.zeros(4, dtype=torch.int64)}), "Expected labels of torch.float32"),
        (save(tensors_of(4) | {"labels": torch.tensor(1.0)}), "0-d tensor"),
    ],
)
def test_damaged_or_other_file_is_a_data_error(tmp_path, content, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"(?s)Expected lesion tensors in .*{message}"):
        Lesions.load(path)


def test_missing_file_and_folder_are_data_errors(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(DataError, match="Expected lesion tensors in"):
            Lesions.load(path)
