"""Whose site a node is, where its files lie, and its patients' data."""

import dataclasses

import pandas as pd
import pytest

from client.data.splits import Role
from client.privacy.policy import OPEN_POLICY
from client.site import SiteSettings, load_site, open_site, simulated_ledger
from shared_model.config import compose
from shared_model.errors import CohortError, ConfigError, LedgerError, PolicyError, RejectLimitError


@pytest.fixture(autouse=True)
def _forget_tables():
    load_site.cache_clear()


@pytest.fixture
def config(hospital):
    return compose(hospital.overrides("model.modality=clinical"))


@pytest.fixture
def node_config(hospital, tmp_path):
    return {
        "site": "HOME",
        "data-root": str(hospital.manifest),
        "data-source": "manifest",
        "ledger": str(tmp_path / "site" / "ledger.sqlite"),
        "policy": str(OPEN_POLICY),
    }


def with_rows(hospital, change):
    """Write the hospital's table anew after ``change``."""
    frame = pd.read_csv(hospital.manifest, dtype=str, keep_default_na=False)
    change(frame).to_csv(hospital.manifest, index=False)


class TestDeployedSettings:
    def test_paths_are_the_sites_own(self, config, node_config, tmp_path):
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, root="/of/the/server", roster="r.csv")
        )
        settings = SiteSettings.from_node_config(node_config, config)
        assert settings.site == "HOME"
        assert settings.ledger == tmp_path / "site" / "ledger.sqlite"
        assert settings.policy == OPEN_POLICY
        assert settings.config.data.root == node_config["data-root"]
        assert settings.config.data.cache_dir == str(tmp_path / "site" / "cache")
        assert settings.config.data.roster is None
        assert dataclasses.replace(settings.config, data=config.data) == config

    def test_roster_and_cache_may_be_named(self, config, node_config):
        node_config |= {"roster": "who.csv", "cache-dir": "/fast/disk"}
        data = SiteSettings.from_node_config(node_config, config).config.data
        assert (data.roster, data.cache_dir) == ("who.csv", "/fast/disk")

    @pytest.mark.parametrize("key", ["site", "data-root", "ledger", "policy"])
    @pytest.mark.parametrize("value", [None, ""])
    def test_a_missing_setting_is_named(self, config, node_config, key, value):
        del node_config[key]
        if value is not None:
            node_config[key] = value
        with pytest.raises(
            ConfigError, match=f"Expected node config {key}; a site sets site, data-root, ledger, policy"
        ):
            SiteSettings.from_node_config(node_config, config)

    def test_a_site_that_the_federation_does_not_know(self, config, node_config):
        with pytest.raises(ConfigError, match=r"Expected node config site='AWAY' in federation\.sites"):
            SiteSettings.from_node_config(node_config | {"site": "AWAY"}, config)

    def test_an_unknown_source(self, config, node_config):
        with pytest.raises(
            ConfigError, match="Expected node config data-source='pacs' to be one of cbis_ddsm, manifest"
        ):
            SiteSettings.from_node_config(node_config | {"data-source": "pacs"}, config)


class TestSimulatedSettings:
    @pytest.mark.parametrize("index", [0, "0"])
    def test_everything_is_the_configurations(self, config, index):
        settings = SiteSettings.from_node_config({"partition-id": index}, config)
        assert settings.site == "HOME"
        assert settings.config == config
        assert settings.ledger == simulated_ledger(config, "HOME")
        assert settings.policy == OPEN_POLICY

    def test_a_policy_may_be_named(self, hospital):
        config = compose(hospital.overrides("federation.site_policy=some.yaml"))
        assert str(SiteSettings.from_node_config({"partition-id": 0}, config).policy) == "some.yaml"

    @pytest.mark.parametrize("index", [1, -1, "x", 0.0, None])
    def test_an_index_out_of_range(self, config, index):
        with pytest.raises(ConfigError, match=r"Expected node config partition-id=.* in \[0, 0\]"):
            SiteSettings.from_node_config({"partition-id": index}, config)


class TestOpenSite:
    def test_a_site_has_its_policy_ledger_and_patients(self, config, node_config):
        site = open_site(node_config, config)
        assert site.name == "HOME"
        assert site.policy.limits.max_epsilon is None
        assert site.ledger.path.exists()
        assert len(site.data.patients(*Role)) == 20

    def test_what_the_policy_forbids_opens_no_ledger_and_reads_no_table(self, config, node_config, hospital, tmp_path):
        (tmp_path / "policy.yaml").write_text(OPEN_POLICY.read_text().replace("max_rounds: 1000000", "max_rounds: 2"))
        hospital.manifest.unlink()
        with pytest.raises(PolicyError, match=r"Expected training\.num_rounds=3 to be <= 2"):
            open_site(node_config | {"policy": str(tmp_path / "policy.yaml")}, config)
        assert not (tmp_path / "site").exists()

    def test_a_damaged_ledger_stops_before_the_table(self, config, node_config, hospital, tmp_path):
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "ledger.sqlite").write_text("no database, whatever its name says")
        hospital.manifest.unlink()
        with pytest.raises(LedgerError, match="Expected a ledger at"):
            open_site(node_config, config)

    def test_the_table_is_read_once(self, config, node_config, hospital):
        first = open_site(node_config, config)
        hospital.manifest.unlink()
        assert open_site(node_config, config).data is first.data


class TestSiteData:
    def test_every_patient_has_one_role(self, config):
        data = load_site(config, "HOME")
        by_role = [set(data.patients(role)) for role in Role]
        assert sum(map(len, by_role)) == len(set().union(*by_role)) == 20
        assert len(data.patients(Role.TEST)) == 4
        assert set(data.patients(Role.TRAIN, Role.TEST)) == set(data.patients(Role.TRAIN)) | set(
            data.patients(Role.TEST)
        )

    def test_a_patient_whose_images_cannot_be_read_still_has_a_role(self, hospital):
        config = compose(hospital.overrides("data.max_reject_fraction=0.2"))
        data = load_site(config, "HOME")
        before = data.patients(*Role)
        victim = pd.read_csv(hospital.manifest)["patient_id"].iloc[0]
        for path in hospital.manifest.parent.glob("*-[01].*"):
            path.write_bytes(b"damaged")
        lesions = data.lesions
        assert sum(len(set(part.patients.tolist())) for part in lesions.values()) == len(before) - 1
        assert victim in data.patients(*Role) == before

    def test_too_many_images_that_cannot_be_read(self, hospital):
        config = compose(hospital.overrides("data.max_reject_fraction=0.01"))
        data = load_site(config, "HOME")
        next(iter(sorted(hospital.manifest.parent.glob("*.dcm")))).write_bytes(b"damaged")
        with pytest.raises(RejectLimitError, match="Expected rejected rows 1 of 40"):
            _ = data.lesions

    def test_too_many_rows_that_cannot_be_used(self, config, hospital):
        with_rows(hospital, lambda frame: frame.assign(breast_density="9"))
        with pytest.raises(RejectLimitError, match="Expected rejected rows 40 of 40"):
            load_site(config, "HOME")

    def test_one_class_only(self, config, hospital):
        with_rows(hospital, lambda frame: frame.assign(label="1"))
        with pytest.raises(CohortError, match="Expected train patients of both classes"):
            load_site(config, "HOME")

    def test_nobody_to_train_on(self, config, hospital):
        with_rows(hospital, lambda frame: frame.assign(split="test"))
        with pytest.raises(CohortError, match="Expected number of train patients=0 > 0"):
            load_site(config, "HOME")

    def test_no_data_folder(self, config):
        gone = dataclasses.replace(config, data=dataclasses.replace(config.data, root="/no/such/table.csv"))
        with pytest.raises(ConfigError, match=r"Expected data\.root=/no/such/table\.csv to exist"):
            load_site(gone, "HOME")
