"""The configuration of both lesion types of the real data, read without images."""

import pytest

from shared_model.config import compose
from tests.real_data import CBIS_DDSM


@pytest.fixture
def real(tmp_path):
    return compose(
        [
            "preset=cbis_mass",
            "data.lesion_types=[mass,calcification]",
            "model.modality=clinical",
            f"data.root={CBIS_DDSM}",
            f"data.cache_dir={tmp_path / 'cache'}",
        ]
    )
