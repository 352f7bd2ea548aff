"""Whose site a node is, where its files lie, and its patients' data."""

import dataclasses
import gc
import weakref
from pathlib import Path

import pandas as pd
import pytest
import yaml

from client import site as site_module
from client.data.splits import Role
from client.data.tables import shared_table
from client.privacy.ledger import Ledger
from client.privacy.policy import HOSPITAL_POLICY, OPEN_POLICY
from client.site import SiteSettings, forget_simulated_sites, open_site, simulated_ledger
from shared_model.config import compose
from shared_model.errors import ConfigError, LedgerError, PolicyError, TableError
from shared_model.network import openvino_encoder


@pytest.fixture
def config(hospital):
    return compose(hospital.overrides("model.modality=clinical"))


@pytest.fixture
def policy(tmp_path):
    """Return a function that writes the open policy with a declared size and some limits changed."""

    def write(**limits):
        path = tmp_path / "policy.yaml"
        values = yaml.safe_load(OPEN_POLICY.read_text()) | {"declared_patients": 10} | limits
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture
def node_config(hospital, tmp_path, policy):
    return {
        "site": "HOME",
        "data-root": str(hospital.manifest),
        "data-source": "manifest",
        "ledger": str(tmp_path / "site" / "ledger.sqlite"),
        "policy": str(policy()),
    }


@pytest.fixture
def begun(node_config):
    """The settings of a site whose ledger is there."""
    Ledger.create(Path(node_config["ledger"]))
    return node_config


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
        assert settings.policy == tmp_path / "policy.yaml"
        assert not settings.is_simulated
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
        assert settings.is_simulated

    def test_a_policy_may_be_named(self, hospital):
        config = compose(hospital.overrides("federation.site_policy=some.yaml"))
        assert str(SiteSettings.from_node_config({"partition-id": 0}, config).policy) == "some.yaml"

    @pytest.mark.parametrize("index", [1, -1, "x", 0.0, None])
    def test_an_index_out_of_range(self, config, index):
        with pytest.raises(ConfigError, match=r"Expected node config partition-id=.* in \[0, 0\]"):
            SiteSettings.from_node_config({"partition-id": index}, config)


class TestOpenSite:
    def test_a_site_has_its_policy_ledger_and_patients(self, config, begun):
        site = open_site(begun, config)
        assert site.name == "HOME"
        assert site.policy.limits.max_epsilon is None
        assert site.ledger.path.exists()
        assert len(site.data.patients(*Role)) == 20
        assert site.num_declared() == 10

    def test_what_the_policy_forbids_opens_no_ledger_and_reads_no_table(
        self, config, node_config, hospital, tmp_path, policy
    ):
        policy(max_rounds=2)
        hospital.manifest.unlink()
        with pytest.raises(PolicyError, match=r"Expected training\.num_rounds=3 to be <= 2"):
            open_site(node_config, config)
        assert not (tmp_path / "site").exists()

    def test_an_engine_that_is_missing_opens_no_ledger_and_reads_no_table(
        self, node_config, hospital, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(openvino_encoder, "find_spec", lambda name: None)
        config = compose(hospital.overrides("model.feature_engine=openvino", "data.image.size=35"))
        hospital.manifest.unlink()
        with pytest.raises(ConfigError, match=r"onnx and openvino for model.feature_engine=openvino; install"):
            open_site(node_config, config)
        assert not (tmp_path / "site").exists()

    def test_a_deployed_site_that_fixed_no_size_answers_nobody(self, config, begun, policy):
        policy(declared_patients=None)
        with pytest.raises(PolicyError, match=r"Expected declared_patients in the site's policy; fedmammo site init"):
            open_site(begun, config)

    def test_a_deployed_site_takes_part_in_secure_sums_with_partners_only_whose_identity_it_has(
        self, hospital, begun, policy, tmp_path
    ):
        shared = compose(
            hospital.overrides(
                "federation.sites=[HOME,MGH,WFU]", "federation.min_sites=2", "federation.secure_sum=true"
            )
        )
        identities = {"MGH": "ab" * 32, "WFU": "cd" * 32}
        for known, missing in (({}, "MGH, WFU"), ({"partners": {"MGH": "ab" * 32}}, "WFU")):
            policy(**known)
            with pytest.raises(PolicyError, match=rf"Expected identities of {missing} in partners of .*") as caught:
                open_site(begun, shared)
            assert caught.value.key == "partners"
        policy(partners=identities)
        assert open_site(begun, shared).policy.partners == identities
        policy()
        assert not open_site({"partition-id": 0}, shared).policy.partners

    def test_a_file_that_forgets_a_limit_has_that_of_the_kits_where_the_site_is_deployed(self, hospital, begun):
        Path(begun["policy"]).write_text("declared_patients: 10\n")
        config = compose(hospital.overrides("model.modality=clinical"))
        deployed = SiteSettings.from_node_config(begun, config).load_policy()
        assert deployed.max_epsilon == yaml.safe_load(HOSPITAL_POLICY.read_text())["max_epsilon"]
        simulated = dataclasses.replace(SiteSettings.from_node_config(begun, config), is_simulated=True).load_policy()
        assert simulated.max_epsilon is None

    def test_a_deployed_site_never_begins_a_ledger(self, config, node_config, tmp_path):
        """A lost folder or a mistyped path would grant everything again."""
        with pytest.raises(LedgerError, match="a site that never took part begins one: fedmammo site init"):
            open_site(node_config, config)
        assert not (tmp_path / "site").exists()

    def test_a_simulated_site_begins_its_ledger_and_finishes_a_beginning_that_was_cut_short(self, config):
        ledger = simulated_ledger(config, "HOME")
        ledger.parent.mkdir(parents=True)
        ledger.touch()
        name = open_site({"partition-id": 0}, config).ledger.name
        assert open_site({"partition-id": 0}, config).ledger.name == Ledger(ledger).name == name

    def test_a_simulated_site_begins_no_ledger_beside_that_of_an_earlier_version(self, config):
        """Whoever keeps ``ledger_dir`` over several runs would get everything granted again."""
        earlier, ledger = Path(config.federation.ledger_dir) / "HOME.sqlite", simulated_ledger(config, "HOME")
        Ledger.create(earlier).forget("P-1")
        with pytest.raises(LedgerError, match=r"Expected the ledger .*HOME\.sqlite of an earlier version at "):
            open_site({"partition-id": 0}, config)
        ledger.parent.mkdir()
        for path in earlier.parent.glob("HOME.sqlite*"):
            path.rename(ledger.parent / path.name.replace("HOME", "ledger"))
        assert len(open_site({"partition-id": 0}, config).ledger.history().forgotten) == 1

    def test_a_damaged_ledger_stops_before_the_table(self, config, node_config, hospital, tmp_path):
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "ledger.sqlite").write_text("no database, whatever its name says")
        hospital.manifest.unlink()
        with pytest.raises(LedgerError, match="Expected a ledger at"):
            open_site(node_config, config)

    def test_opening_reads_no_table(self, config, begun, hospital):
        hospital.manifest.unlink()
        site = open_site(begun, config)
        with pytest.raises(TableError, match=r"Expected data\.root=.* to exist"):
            _ = site.data

    def test_the_table_is_read_once_until_it_changes(self, config, begun, hospital):
        first = open_site(begun, config).data
        assert open_site(begun, config).data is first
        with_rows(hospital, lambda frame: frame.iloc[2:])
        after = open_site(begun, config).data
        assert set(first.patients(*Role)) - set(after.patients(*Role)) == {first.table.frame["patient_id"].iloc[0]}
        assert open_site(begun, config).data is after

    def test_simulated_sites_of_one_process_read_the_table_once_until_it_changes(self, hospital, monkeypatch):
        patients, read = pd.read_csv(hospital.manifest)["patient_id"].unique(), []
        rows = "".join(f"{patient},{'AB'[number % 2]}\n" for number, patient in enumerate(patients))
        (hospital.manifest.parent / "who.csv").write_text("patient_id,site\n" + rows)
        sites = ("model.modality=clinical", "federation.sites=[A,B]", "data.roster=who.csv")
        config, original = compose(hospital.overrides(*sites)), shared_table.shared_table
        monkeypatch.setattr(shared_table, "shared_table", lambda config: read.append(1) or original(config))

        def patients_of(number):
            return open_site({"partition-id": number}, config).data.patients(*Role)

        assert [sorted(patients_of(number)) for number in (0, 1, 0)] == [sorted(patients[k::2]) for k in (0, 1, 0)]
        assert len(read) == 1
        with_rows(hospital, lambda frame: frame[frame["patient_id"] != patients[1]])
        assert [sorted(patients_of(number)) for number in (0, 1)] == [sorted(patients[::2]), sorted(patients[3::2])]
        assert len(read) == 2

    def test_one_answer_looks_at_the_tables_once(self, config, begun, hospital, monkeypatch):
        looks, original = [], site_module.table_state
        monkeypatch.setattr(site_module, "table_state", lambda *data: looks.append(data) or original(*data))
        site = open_site(begun, config)
        before = site.data
        with_rows(hospital, lambda frame: frame.iloc[2:])
        assert site.data is before
        assert len(looks) == 1
        assert len(open_site(begun, config).data.table.frame) < len(before.table.frame)
        assert len(looks) == 2

    def test_a_roster_that_changes_counts_too(self, config, begun, hospital):
        roster = hospital.manifest.parent / "who.csv"
        patients = pd.read_csv(hospital.manifest)["patient_id"].unique()
        roster.write_text("patient_id,site\n" + "".join(f"{patient},HOME\n" for patient in patients))
        node = begun | {"roster": "who.csv"}
        assert len(open_site(node, config).data.patients(*Role)) == 20
        roster.write_text("patient_id,site\n" + "".join(f"{patient},HOME\n" for patient in patients[1:]))
        assert len(open_site(node, config).data.patients(*Role)) == 19

    def test_ever_new_configurations_fill_no_memory(self, hospital, begun):
        """Kept is what was asked for last."""
        kept = []
        for seed in range(3):
            config = compose(hospital.overrides("model.modality=clinical", f"seed={seed}"))
            kept.append(weakref.ref(open_site(begun, config).data))
        gc.collect()
        assert [reference() is not None for reference in kept] == [False, False, True]

    def test_sites_of_runs_that_are_over_fill_no_memory(self, config):
        """A study has many runs in one process, each with ledgers of its own."""
        site = open_site({"partition-id": 0}, config)
        kept = [weakref.ref(site.data), weakref.ref(site.ledger)]
        name = site.ledger.name
        del site
        forget_simulated_sites()
        gc.collect()
        assert [reference() for reference in kept] == [None, None]
        assert open_site({"partition-id": 0}, config).ledger.name == name

    def test_a_deployed_site_is_not_forgotten_with_them(self, config, begun):
        data = open_site(begun, config).data
        forget_simulated_sites()
        assert open_site(begun, config).data is data


class TestRoles:
    @pytest.mark.parametrize(
        "override",
        ["seed=5", "data.validation_fraction=1e-12", "data.public_fraction=0.2", "privacy.cohort_rounding=3"],
    )
    def test_no_configuration_moves_a_patient(self, hospital, begun, policy, override):
        policy(validation_fraction=0.5)
        plain, other = (compose(hospital.overrides("model.modality=clinical", *more)) for more in ((), (override,)))
        roles = [open_site(begun, config).data.role_by_patient for config in (plain, other)]
        assert roles[0].equals(roles[1])
        assert set(roles[0]) == {Role.TRAIN, Role.VALIDATION, Role.TEST}

    def test_two_hospitals_deal_differently(self, config, begun, policy, tmp_path):
        policy(validation_fraction=0.5)
        other = begun | {"ledger": str(tmp_path / "another" / "ledger.sqlite")}
        Ledger.create(Path(other["ledger"]))
        roles = [open_site(node, config).data.role_by_patient for node in (begun, other)]
        assert not roles[0].equals(roles[1])

    def test_a_simulation_can_be_repeated(self, hospital, tmp_path):
        """Its roles are keyed with the seed, which protects nobody."""
        roles = {}
        for seed in (0, 0, 1):
            run = f"run.dir={tmp_path / str(len(roles))}"
            config = compose(hospital.overrides("model.modality=clinical", f"seed={seed}", run))
            dealt = open_site({"partition-id": 0}, config).data.role_by_patient
            assert roles.setdefault(seed, dealt).equals(dealt)
        assert not roles[0].equals(roles[1])


class TestSiteData:
    @pytest.fixture
    def load(self, begun):
        """Return a function that opens the site anew and returns its data."""
        return lambda config: open_site(begun, config).data

    def test_every_patient_has_one_role(self, config, load):
        data = load(config)
        by_role = [set(data.patients(role)) for role in Role]
        assert sum(map(len, by_role)) == len(set().union(*by_role)) == 20
        assert len(data.patients(Role.TEST)) == 4
        assert data.patients(Role.PUBLIC) == []
        assert set(data.patients(Role.TRAIN, Role.TEST)) == set(data.patients(Role.TRAIN)) | set(
            data.patients(Role.TEST)
        )

    def test_only_those_who_take_part(self, config, load):
        data = load(config)
        chosen = data.patients(Role.TRAIN)[:3]
        lesions = data.lesions(Role.TRAIN, lambda patient: patient in [*chosen, *data.patients(Role.TEST)])
        assert lesions.num_patients == 3
        assert len(lesions) == 6
        assert len(data.lesions(Role.TRAIN, lambda _: False)) == 0

    def test_a_patient_whose_images_cannot_be_read_still_has_a_role(self, hospital, load):
        config = compose(hospital.overrides())
        data = load(config)
        before = data.patients(*Role)
        victim = pd.read_csv(hospital.manifest)["patient_id"].iloc[0]
        for path in hospital.manifest.parent.glob("*-[01].*"):
            path.write_bytes(b"damaged")
        assert sum(data.lesions(role).num_patients for role in Role) == len(before) - 1
        assert victim in data.patients(*Role) == before

    def test_images_that_cannot_be_read_stop_nothing(self, hospital, load):
        data = load(compose(hospital.overrides("data.max_reject_fraction=0.01")))
        for path in hospital.manifest.parent.glob("*.dcm"):
            path.write_bytes(b"damaged")
        assert sum(len(data.lesions(role)) for role in Role) == 20

    @pytest.mark.parametrize(
        ("change", "num_lesions"),
        [
            (lambda frame: frame.assign(label="9"), 0),
            (lambda frame: frame.assign(label="1"), 40),
            (lambda frame: frame.assign(split="test"), 40),
            (lambda frame: frame.iloc[:0], 0),
        ],
        ids=["no usable row", "one class", "nobody to train on", "nobody"],
    )
    def test_data_are_not_judged_here(self, config, hospital, load, change, num_lesions):
        with_rows(hospital, change)
        data = load(config)
        assert sum(len(data.lesions(role)) for role in Role) == num_lesions

    def test_no_data_folder(self, config, begun):
        with pytest.raises(TableError, match=r"Expected data\.root=/no/such/table\.csv to exist"):
            _ = open_site(begun | {"data-root": "/no/such/table.csv"}, config).data

    def test_a_file_that_is_no_table(self, config, hospital, load):
        hospital.manifest.write_bytes(b"patient:label:split\n")
        with pytest.raises(TableError, match="to have column patient_id, label, split"):
            load(config)
