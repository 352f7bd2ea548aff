"""Numbers of public lesions at the server: what the network begins with, and over whose patients it may not."""

import numpy as np
import pytest

from server.evaluation.global_model import GlobalModel
from server.evaluation.shipped_constants import load_shipped
from shared_model.config.composition import compose
from shared_model.errors import ConfigError
from shared_model.reference.reference_file import SHIPPED_FILE, read_reference
from tests.reference_files import of_sites

OVERRIDES = ("preset=few_patients", "data.root=.", "run.dir=unused", "data.features=descriptors")
AT_CBIS = ("data.source=cbis_ddsm", "data.roster=sites.csv")


def model_of(*more):
    return GlobalModel.from_config(compose([*OVERRIDES, "evaluation.privacy=dp", *more]))


def test_the_network_begins_with_constants_and_head_of_the_file():
    reference, model = read_reference(SHIPPED_FILE), model_of()
    assert model.reference.file_sha256 == reference.file_sha256
    mean, projection = model.constants.values()
    assert np.array_equal(mean, reference.arrays["mean"])
    assert np.array_equal(projection, reference.arrays["projection"])
    (head,) = model.initial_parameters.values()
    assert np.array_equal(head, reference.arrays["head.descriptors"])


def test_the_head_is_that_of_the_columns_read():
    (head,) = model_of("model.modality=image").initial_parameters.values()
    assert np.array_equal(head, read_reference(SHIPPED_FILE).arrays["head.image"])


def test_constants_alone_leave_the_head_at_zero():
    model = model_of("model.initial_head=zero")
    assert not any(array.any() for array in model.initial_parameters.values())
    assert model.constants["image_standardisation.mean"].any()


def test_no_file_is_read_where_none_is_asked_for():
    assert load_shipped(compose(["preset=cbis_mass", "data.root=.", "run.dir=unused"])) is None


def test_a_file_that_is_named_is_read_and_none_else(tmp_path):
    named = f"model.constants_file={of_sites(tmp_path, 'WFU')}"
    assert load_shipped(compose([*OVERRIDES, named])).facts.sites == ("WFU",)
    with pytest.raises(
        ConfigError, match=r"Expected numbers of public lesions in .*none.safetensors: there is no such"
    ):
        model_of(f"model.constants_file={tmp_path / 'none.safetensors'}")


class TestOtherPatients:
    def test_the_tables_of_the_same_data_set_are_refused(self):
        with pytest.raises(ConfigError, match=r"got those of CBIS-DDSM: make them with .* or set data.source=manifest"):
            load_shipped(compose([*OVERRIDES, *AT_CBIS]))

    @pytest.mark.parametrize("sites", ["[MGH,WFU,ISMD]", "[MGH,wfu]"])
    def test_and_so_are_hospitals_that_take_part(self, tmp_path, sites):
        named = (f"model.constants_file={of_sites(tmp_path, 'WFU')}", f"federation.sites={sites}")
        with pytest.raises(ConfigError, match=r"got those of CBIS-DDSM \(WFU\): make them with"):
            load_shipped(compose([*OVERRIDES, *AT_CBIS, *named]))

    @pytest.mark.parametrize("data_set", ["cbis-ddsm", "CBIS_DDSM", "CBIS-DDSM ", "CBIS\N{NON-BREAKING HYPHEN}DDSM"])
    def test_however_the_file_spells_the_data_set(self, tmp_path, data_set):
        named = f"model.constants_file={of_sites(tmp_path, data_set=data_set)}"
        with pytest.raises(ConfigError, match="Expected constants of other patients than those of"):
            load_shipped(compose([*OVERRIDES, *AT_CBIS, named]))

    @pytest.mark.parametrize("site", ["WFU ", "W FU", "\N{FULLWIDTH LATIN CAPITAL LETTER W}FU"])
    def test_and_however_it_spells_a_hospital(self, tmp_path, site):
        named = (f"model.constants_file={of_sites(tmp_path, site)}", "federation.sites=[MGH,WFU]")
        with pytest.raises(ConfigError, match="Expected constants of other patients than those of"):
            load_shipped(compose([*OVERRIDES, *AT_CBIS, *named]))

    def test_other_hospitals_may(self, tmp_path):
        named = (f"model.constants_file={of_sites(tmp_path, 'WFU')}", "federation.sites=[MGH,ISMD]")
        assert load_shipped(compose([*OVERRIDES, *AT_CBIS, *named])) is not None

    def test_and_so_may_another_data_set(self, tmp_path):
        named = f"model.constants_file={of_sites(tmp_path, data_set='Another')}"
        assert load_shipped(compose([*OVERRIDES, *AT_CBIS, named])) is not None
