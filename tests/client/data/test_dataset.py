"""Table and images to tensors: every row once, nothing lost silently, the cache in between."""

import numpy as np
import pytest
import torch

import client.data.network_inputs
from client.data.dataset import load_all_lesions
from client.data.tables.site_table import site_table
from shared_model.config.composition import compose
from tests.real_data import needs_cbis_ddsm


@pytest.fixture
def config(hospital):
    return compose(hospital.overrides())


def load(config, **arguments):
    return load_all_lesions(site_table(config, "HOME"), config, **arguments)


class TestManifest:
    def test_every_row_is_a_lesion_and_rows_of_a_patient_have_her_number(self, config):
        lesions, table = load(config)
        assert len(lesions) == len(table.frame) == 40
        numbers = lesions.patients.tolist()
        pairs = set(zip(table.frame["patient_id"], numbers, strict=True))
        assert len(pairs) == len({name for name, _ in pairs}) == len(set(numbers)) == 20

    def test_missing_image_is_zero_and_marked(self, config):
        lesions, _ = load(config)
        assert not lesions.images[~lesions.has_image].any()
        assert bool(lesions.images[lesions.has_image].flatten(1).any(dim=1).all())

    def test_warm_cache_gives_equal_tensors_without_reading_images(self, config, monkeypatch):
        cold, _ = load(config)
        monkeypatch.setattr(client.data.network_inputs, "load_lesion", lambda *_: pytest.fail("read an image"))
        warm, _ = load(config)
        assert torch.equal(cold.images, warm.images)

    def test_changed_image_is_computed_again(self, config, hospital):
        before, _ = load(config)
        folder = hospital.manifest.parent
        first, second = sorted(folder.glob("*.dcm"))[:2]
        first.write_bytes(second.read_bytes())
        after, _ = load(config)
        assert not torch.equal(before.images, after.images)

    @pytest.mark.parametrize("change", ["data.image.normalisation=min_max", "model.backbone=efficientnet_lite1"])
    def test_other_settings_use_other_entries(self, config, hospital, change):
        load(config)
        first, _ = load(config)
        second, _ = load(compose(hospital.overrides(change)))
        assert not torch.equal(first.images, second.images)

    def test_unreadable_image_moves_its_row_to_the_rejects(self, config, hospital):
        victim = sorted(hospital.manifest.parent.glob("*.dcm"))[0]
        victim.write_bytes(b"no image")
        lesions, table = load(config)
        assert len(lesions) == len(table.frame) == 39
        assert table.rejects["reason"].str.contains(victim.name, regex=False).tolist() == [True]
        # As the table's own rows are counted, not those that are left of it.
        number = int(victim.stem.rpartition("-")[2])
        assert table.rejects[["source", "row"]].to_numpy().tolist() == [["manifest.csv", number + 1]]

    def test_progress_reaches_the_total(self, config):
        seen = []
        load(config, report=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (40, 40)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@needs_cbis_ddsm
class TestRealTables:
    def test_no_patient_is_in_two_hospitals(self, real):
        parts = {}
        for site in real.federation.sites:
            lesions, table = load_all_lesions(site_table(real, site), real)
            parts[site] = set(table.frame["patient_id"])
            assert len(np.unique(lesions.patients.numpy())) == len(parts[site])
        assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 1566
