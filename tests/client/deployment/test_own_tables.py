"""A site's own tables before its first start: which lesion types it has, and what its name is in the roster."""

import shutil

import pytest
import yaml

from client.deployment.checks import Status, may_start
from client.deployment.initialisation import initialise
from client.deployment.patient_checks import check_tables
from client.deployment.preflight import preflight
from client.deployment.site_file import SiteFile
from shared_model.errors import ConfigError, RejectLimitError, TableError
from simulations.phantom.write import write_phantom
from tests.hospital_kits import rows_of
from tests.real_data import CBIS_DDSM, needs_cbis_ddsm


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(root, num_patients=80, seed=0, progress=lambda done: None)
    return root


@pytest.fixture
def masses(kit, phantom, tmp_path):
    """A hospital that has masses only, with the policy of the kits."""
    root = tmp_path / "masses"
    shutil.copytree(phantom, root, symlinks=True, ignore=shutil.ignore_patterns("calc_*", "Calc-*"))
    kit.change(data_root=str(root), data_source="cbis_ddsm", roster="sites.csv")
    kit.change_policy(fields={})
    return kit


def test_masses_only_start_with_the_policy_of_the_kits(masses):
    masses.change_policy(min_patients=2, min_cohort_rounding=2, max_reject_fraction=0.2)
    assert yaml.safe_load((masses.folder / "policy.yaml").read_text())["lesion_types"] == ["mass"]
    initialise(masses.site)
    checks = preflight(masses.site)
    assert [check for check in checks if check.status is Status.FAILED] == []


def test_lesion_types_of_the_site_file_that_agree_with_the_policy_start(masses):
    masses.change_policy(min_patients=2, min_cohort_rounding=2, max_reject_fraction=0.2)
    masses.change(lesion_types=["mass"])
    initialise(masses.site)
    assert may_start(preflight(masses.site))


@pytest.mark.parametrize(("types", "named"), [(None, "null"), (["mass", "calcification"], r"\[mass, calcification\]")])
def test_lesion_types_of_the_site_file_never_stand_above_the_policy(masses, types, named):
    """A request is held to the policy alone: a second key that said something else would be believed by nobody."""
    masses.change_policy(lesion_types=types)
    masses.change(lesion_types=["mass"])
    with pytest.raises(ConfigError, match=rf"lesion_types: \[mass\] of the site file to be those of .*, got {named}: "):
        initialise(masses.site)
    assert not masses.site.ledger.exists()


@pytest.mark.parametrize("types", [[], ["mass", "mass"], ["masses"], "mass"])
def test_lesion_types_of_the_site_file_are_checked(masses, types):
    masses.change(lesion_types=types)
    with pytest.raises(ConfigError, match="lesion_types"):
        SiteFile.load(masses.path)


@pytest.mark.parametrize("types", [None, ["mass", "calcification"], ["calcification"]])
def test_types_that_the_folder_lacks_name_the_key_to_set(masses, types):
    masses.change_policy(lesion_types=types)
    with pytest.raises(TableError, match=r"found those of mass alone; set lesion_types: \[mass\] in .*policy\.yaml"):
        initialise(masses.site)
    assert not masses.site.ledger.exists()


def test_a_folder_without_case_descriptions(masses, tmp_path):
    masses.change(data_root=str(tmp_path))
    with pytest.raises(TableError, match="set data_root to their folder, or data_source: manifest"):
        check_tables(masses.site)


@pytest.mark.parametrize(
    ("root", "source", "advice"),
    [
        ("nowhere", "cbis_ddsm", r"Expected data_root=.*nowhere of site\.yaml to exist"),
        ("nowhere", "manifest", r"Expected data_root=.*nowhere of site\.yaml to exist"),
        (".", "manifest", "set data_source: cbis_ddsm"),
        ("site.yaml", "cbis_ddsm", "to be a folder; set data_source: manifest"),
    ],
)
def test_a_wrong_path_or_source_names_the_key_to_set(masses, root, source, advice):
    masses.change(data_root=root, data_source=source)
    with pytest.raises(ConfigError, match=advice):
        initialise(masses.site)
    assert not masses.site.ledger.exists()


def test_a_name_in_another_case_is_the_same_site(masses):
    masses.change_policy(min_patients=2, min_cohort_rounding=2, max_reject_fraction=0.2)
    upper = initialise(masses.site).num_training
    for path in (*masses.folder.glob("ledger.sqlite*"), masses.site.ledger_identity):
        path.unlink()
    masses.change_policy(declared_patients=None, validation_fraction=0.0)
    masses.change(site="mgh")
    assert initialise(masses.site).num_training >= upper > 0


def test_a_site_that_the_roster_does_not_name(masses):
    masses.change(site="Mass-General")
    with pytest.raises(ConfigError, match=r"Expected patients of site Mass-General in sites\.csv, found those of ISMD"):
        initialise(masses.site)
    assert not masses.site.ledger.exists()


def test_rows_that_cannot_be_used_are_named_before_a_ledger_is_begun(kit):
    """Earlier: "found 0: too few to declare", and nobody knew why."""
    kit.write_table([row | {"breast_density": 9} for row in rows_of([f"P{n}" for n in range(48)])])
    with pytest.raises(RejectLimitError, match=r"Expected rejected rows 48 of 48 .* most common reason"):
        initialise(kit.site)
    assert not kit.site.ledger.exists()


@needs_cbis_ddsm
def test_the_real_masses_with_the_policy_of_the_kits(kit):
    """As the runbook has it: the coordinator writes the names of sites in small letters, and the roster does not."""
    kit.change_policy(fields={})
    kit.change(site="mgh", data_root=str(CBIS_DDSM), data_source="cbis_ddsm", roster="sites.csv")
    begun = initialise(kit.site)
    assert 0 < begun.declared_patients <= begun.num_training <= 212
    checks = {check.name: check for check in preflight(kit.site)}
    assert [name for name, check in checks.items() if check.status is Status.FAILED] == []
    assert checks["data"].detail == "293 patients, 461 lesion views, 0 rows rejected"
    assert checks["images"].detail.startswith("461 of 461 lesions have an image; ")
