"""Table and images to tensors: every patient once, nothing lost silently, the cache in between."""

import pytest
import torch

import client.data.network_inputs
from client.data.dataset import load_lesions
from client.data.splits import Role
from client.data.tables.site_table import site_table
from shared_model.config.composition import compose
from tests.real_data import needs_cbis_ddsm


@pytest.fixture
def config(hospital):
    return compose(hospital.overrides())


class TestManifest:
    def test_every_row_has_one_role_and_no_patient_two(self, config):
        lesions, table = load_lesions(site_table(config, "HOME"), config)
        assert sum(len(part) for part in lesions.values()) == len(table.frame) == 40
        patients = [set(part.patients.tolist()) for part in lesions.values()]
        assert sum(len(part) for part in patients) == len(set().union(*patients)) == 20

    def test_missing_image_is_zero_and_marked(self, config):
        lesions, _ = load_lesions(site_table(config, "HOME"), config)
        for part in lesions.values():
            assert not part.images[~part.has_image].any()
            assert bool(part.images[part.has_image].flatten(1).any(dim=1).all())

    def test_warm_cache_gives_equal_tensors_without_reading_images(self, config, monkeypatch):
        cold, _ = load_lesions(site_table(config, "HOME"), config)
        monkeypatch.setattr(client.data.network_inputs, "load_lesion", lambda *_: pytest.fail("read an image"))
        warm, _ = load_lesions(site_table(config, "HOME"), config)
        for role in Role:
            assert torch.equal(cold[role].images, warm[role].images)

    def test_changed_image_is_computed_again(self, config, hospital):
        before, _ = load_lesions(site_table(config, "HOME"), config)
        folder = hospital.manifest.parent
        first, second = sorted(folder.glob("*.dcm"))[:2]
        first.write_bytes(second.read_bytes())
        after, _ = load_lesions(site_table(config, "HOME"), config)
        assert any(not torch.equal(before[role].images, after[role].images) for role in Role)

    @pytest.mark.parametrize("change", ["data.image.normalisation=min_max", "model.backbone=efficientnet_lite1"])
    def test_other_settings_use_other_entries(self, config, hospital, change):
        load_lesions(site_table(config, "HOME"), config)
        changed = compose(hospital.overrides(change))
        first, _ = load_lesions(site_table(config, "HOME"), config)
        second, _ = load_lesions(site_table(changed, "HOME"), changed)
        assert any(not torch.equal(first[role].images, second[role].images) for role in Role)

    def test_unreadable_image_moves_its_row_to_the_rejects(self, config, hospital):
        victim = sorted(hospital.manifest.parent.glob("*.dcm"))[0]
        victim.write_bytes(b"no image")
        lesions, table = load_lesions(site_table(config, "HOME"), config)
        assert sum(len(part) for part in lesions.values()) == len(table.frame) == 39
        assert table.rejects["reason"].str.contains(victim.name, regex=False).tolist() == [True]

    def test_progress_reaches_the_total(self, config):
        seen = []
        load_lesions(site_table(config, "HOME"), config, report=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (40, 40)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@needs_cbis_ddsm
class TestRealTables:
    def test_no_patient_is_on_two_sides_or_in_two_hospitals(self, real):
        parts = {}
        for site in real.federation.sites:
            lesions, table = load_lesions(site_table(real, site), real)
            patients = table.frame["patient_id"].to_numpy()
            parts[site] = set(patients)
            numbers = [set(part.patients.tolist()) for part in lesions.values()]
            assert sum(map(len, numbers)) == len(set().union(*numbers))
        assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 1566
