"""Files of numbers: the one that is shipped, what hostile ones are answered, and what does not fit a configuration."""

import dataclasses
import json
import pickle
import struct

import numpy as np
import pytest
from safetensors.numpy import save

from shared_model.config.composition import compose
from shared_model.errors import ConfigError
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.reference.reference_file import MAX_BYTES, SHIPPED_FILE, read_reference, to_bytes

OVERRIDES = ("preset=few_patients", "data.root=.", "run.dir=unused")


@pytest.fixture(scope="module")
def shipped():
    return read_reference(SHIPPED_FILE)


def header_of(content):
    """The header of a safetensors file, and what follows it."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header, rest):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def with_facts(change):
    """The shipped file after ``change`` of its facts, a dictionary."""
    header, rest = header_of(SHIPPED_FILE.read_bytes())
    facts = json.loads(header["__metadata__"]["reference"])
    change(facts)
    header["__metadata__"]["reference"] = json.dumps(facts)
    return with_header(header, rest)


def with_arrays(**changes):
    """The shipped file with other arrays, None for one less; nothing else is corrected."""
    reference = read_reference(SHIPPED_FILE)
    header, _ = header_of(SHIPPED_FILE.read_bytes())
    arrays = {**reference.arrays, **changes}
    return save({name: array for name, array in arrays.items() if array is not None}, header["__metadata__"])


def not_finite(shape):
    array = np.zeros(shape, np.float32)
    array.flat[3] = np.nan
    return array


class TestShipped:
    def test_it_is_small_and_says_where_it_is_from(self, shipped):
        assert SHIPPED_FILE.stat().st_size < 100_000
        facts = shipped.facts
        assert (facts.data_set, facts.licence, facts.split, facts.sites) == ("CBIS-DDSM", "CC BY 3.0", "train", ())
        assert "10.7937/K9/TCIA.2016.7O02S9CY" in facts.citation
        assert (len(facts.patients), facts.num_lesions) == (691, 1318)
        assert "/" not in facts.command

    @pytest.mark.parametrize(
        "more", [[], ["model.modality=image"], ["data.features=descriptors"], ["data.image.mode=roi"]]
    )
    def test_it_fits_the_preset_of_few_patients(self, shipped, more):
        config = compose([*OVERRIDES, *more])
        shipped.require_fits(config)
        assert shipped.head(config).dtype == np.float32

    def test_components_are_an_orthogonal_projection_of_the_scaled_features(self, shipped):
        directions = shipped.arrays["projection"].astype(np.float64) / shipped.arrays["scale"][:, None]
        np.testing.assert_allclose(directions.T @ directions, np.eye(shipped.num_components), atol=1e-5)

    def test_the_same_numbers_are_the_same_bytes(self, shipped):
        assert to_bytes(shipped.facts, shipped.arrays) == SHIPPED_FILE.read_bytes()


class TestHostile:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "Expecting value"),
            (b"\0" * 64, "Expecting value"),
            (b"\xff" * 64, "."),
            (pickle.dumps({"mean": 1}), "."),
            (struct.pack("<Q", 2**63) + b"{}", "lacks what the numbers are of"),
            (struct.pack("<Q", 20_000) + b"[" * 20_000, "recursion"),
            (b"\0" * (MAX_BYTES + 1), f"expected at most {MAX_BYTES} bytes"),
            (save({"mean": np.zeros(3, np.float32)}), "lacks what the numbers are of"),
            (save({"mean": np.zeros(3, np.float32)}, {"reference": "{}"}), "reference.format_version"),
            (with_facts(lambda facts: facts.update(format_version=2)), "format_version=2 = 1"),
            (with_facts(lambda facts: facts.update(more=1)), "more"),
            (with_facts(lambda facts: facts.update(licence="CC0")), "it was changed or damaged"),
            (with_facts(lambda facts: facts.update(patients=["P_00001"])), "it was changed or damaged"),
            (with_facts(lambda facts: facts.update(patients=["P", "P"])), "to be distinct"),
            (with_facts(lambda facts: facts.update(data_set="\x1b[2Jx\n")), "to be a printable line"),
            (with_facts(lambda facts: facts.update(citation="x" * 501)), "to be a printable line"),
            (with_facts(lambda facts: facts.update(backbone="resnet18")), "to be frozen"),
            (with_facts(lambda facts: facts["columns"].update(secret=[])), "to be named image, safe"),
            (with_facts(lambda facts: facts["columns"].update(safe=["\x1b[2Jx\n"])), "to be a printable line"),
            (with_arrays(mean=np.ones(FEATURE_WIDTH, np.float32)), "it was changed or damaged"),
            (with_arrays(mean=not_finite((FEATURE_WIDTH,))), "expected finite values"),
            (with_arrays(mean=np.full(FEATURE_WIDTH, 1e5, np.float32)), "expected finite values within 10000"),
            (with_arrays(mean=np.zeros(7, np.float32)), r"expected mean of float32 and shape \(320,\)"),
            (with_arrays(mean=np.zeros(FEATURE_WIDTH)), "got float64"),
            (with_arrays(projection=np.zeros((FEATURE_WIDTH, 0), np.float32)), "with K in"),
            (with_arrays(projection=np.zeros(FEATURE_WIDTH, np.float32)), "with K in"),
            (with_arrays(scale=np.zeros(FEATURE_WIDTH, np.float32)), "expected scale > 0"),
            (with_arrays(residual_quantiles=np.arange(7, 0, -1, np.float32)), "in ascending order"),
            (with_arrays(scale=None), "expected the arrays component_mean"),
            (with_arrays(other=np.zeros(3, np.float32)), "expected the arrays component_mean"),
        ],
    )
    def test_it_is_refused_in_one_line(self, tmp_path, content, reason):
        path = tmp_path / "numbers.safetensors"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=reason) as caught:
            read_reference(path)
        message = str(caught.value)
        assert message.startswith(f"Expected numbers of public lesions in {path}: ")
        assert message.endswith("make it with fedmammo reference constants.")
        assert message.isprintable()
        assert len(message) < 1000 + len(str(path))

    def test_every_byte_counts(self, tmp_path):
        content, path = SHIPPED_FILE.read_bytes(), tmp_path / "numbers.safetensors"
        for position in range(0, len(content), 997):
            changed = bytearray(content)
            changed[position] ^= 1
            path.write_bytes(changed)
            with pytest.raises(ConfigError, match="Expected numbers of public lesions in"):
                read_reference(path)

    @pytest.mark.parametrize("length", [1, 8, 9, 5000, 30_000])
    def test_a_part_of_it_is_none(self, tmp_path, length):
        path = tmp_path / "numbers.safetensors"
        path.write_bytes(SHIPPED_FILE.read_bytes()[:length])
        with pytest.raises(ConfigError, match="Expected numbers of public lesions in"):
            read_reference(path)

    def test_a_folder_or_nothing_is_none(self, tmp_path):
        for path in (tmp_path, tmp_path / "none"):
            with pytest.raises(ConfigError, match="there is no such file"):
                read_reference(path)

    def test_what_cannot_be_read_back_is_not_written(self, shipped):
        with pytest.raises(ValueError, match="expected finite values"):
            to_bytes(shipped.facts, {**shipped.arrays, "mean": not_finite((FEATURE_WIDTH,))})


class TestFits:
    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["model.backbone=efficientnet_lite0"], "model.backbone=efficientnet_lite0 == efficientnet_lite1"),
            (["model.image_components=32"], "model.image_components=32 == 16"),
            (["data.views=own"], "data.views=own == all"),
            (["data.image.size=64"], "data.image.size=64 == 128"),
            (["data.image.face_left=false"], "data.image.face_left=False == True"),
            (["data.image.normalisation=min_max"], "data.image.normalisation=min_max == full_range"),
            (["data.image.mode=film"], "data.image.mode=film == crop"),
            (["data.lesion_types=[mass,calcification]"], "data.lesion_types=mass, calcification among mass"),
            (["data.features=reader"], "model.initial_head=shipped == zero: there is no head for columns 'reader'"),
        ],
    )
    def test_what_the_numbers_are_not_of_is_named(self, shipped, overrides, message):
        with pytest.raises(ConfigError, match=f"Expected {message}"):
            shipped.require_fits(compose([*OVERRIDES, *overrides]))

    def test_without_its_head_any_columns_do(self, shipped):
        shipped.require_fits(compose([*OVERRIDES, "data.features=reader", "model.initial_head=zero"]))

    def test_other_weights_of_the_encoder_or_columns_of_the_code(self, shipped):
        config = compose(list(OVERRIDES))
        for changes, message in (
            ({"weights_sha256": "0" * 64}, "weights of efficientnet_lite1"),
            ({"columns": {**shipped.facts.columns, "safe": ("age",)}}, "columns of the head 'safe'"),
        ):
            other = dataclasses.replace(shipped, facts=dataclasses.replace(shipped.facts, **changes))
            with pytest.raises(ConfigError, match=message):
                other.require_fits(config)
