"""One patient of DICOM files under two of the table is named by the table's identifiers, never by the files'."""

import pydicom
import pytest

from client.data import file_patients
from client.data.file_patients import FilePatients
from client.data.network_inputs import lesion_files
from client.data.tables.site_table import site_table
from shared_model.config import compose
from simulations.commands.app import main
from tests.real_data import CBIS_DDSM, needs_cbis_ddsm

NAMED = "HN-4711"


@pytest.fixture
def named(hospital):
    """Return a function that writes PatientID, and whatever else, into the hospital's files by the number of patient.

    Its 20 patients have a DICOM file each: rows 0, 3, 4, 7 and so on.
    """
    paths = sorted(hospital.manifest.parent.glob("*.dcm"), key=lambda path: int(path.stem.split("-")[-1]))

    def name(patient_ids, **others):
        for number, path in enumerate(paths):
            dataset = pydicom.dcmread(path)
            dataset.PatientID = patient_ids(number)
            for keyword, value in others.items():
                setattr(dataset, keyword, value(number))
            dataset.save_as(path)

    return name


@pytest.fixture
def found(hospital):
    def of():
        config = compose(hospital.overrides())
        return FilePatients.of(site_table(config, "HOME"), config)

    return of


def test_files_that_agree_with_the_table(named, found):
    named(lambda number: f"{NAMED}-{number}")
    assert (found().doubt, found().shared) == (None, ())
    assert str(found()) == "20 DICOM headers read"


@pytest.mark.parametrize("spelling", [NAMED, f" {NAMED.lower()} "])
def test_one_patient_under_two_identifiers(named, found, spelling):
    named(lambda number: {2: NAMED, 5: spelling}.get(number, f"other-{number}"))
    (pair,) = found().shared
    assert [name.rpartition("-")[2] for name in pair] == ["2", "5"]
    assert found().doubt.startswith("1 PatientID of DICOM files under several patients of the table (")
    assert NAMED.lower() not in found().doubt.lower()


def test_many_are_said_in_one_line(named, found):
    named(lambda number: f"{NAMED}-{number // 2}")
    assert len(found().shared) == 10
    assert found().doubt.count(";") == 4
    assert "; ...)" in found().doubt


def test_another_issuer_may_give_the_same_number(named, found):
    named(lambda number: f"{number // 2}", IssuerOfPatientID=lambda number: f"hospital {number % 2}")
    assert found().doubt is None


@pytest.mark.parametrize("constant", ["", "ANONYMOUS", "0", "Removed"])
def test_files_that_name_nobody_or_all_the_same(named, found, constant):
    named(lambda number: constant)
    assert found().doubt is None
    assert "; the files of 20 of 20 patients name nobody, or all the same PatientID, so they cannot tell" in str(
        found()
    )


def test_a_constant_under_nearly_all_hides_no_pair(named, found):
    named(lambda number: {2: NAMED, 5: NAMED}.get(number, "0"))
    assert len(found().shared) == 1
    assert "18 of 20 patients name nobody" in str(found())


def test_where_files_are_many_some_are_read_and_that_is_said(named, found, monkeypatch):
    named(lambda number: f"{NAMED}-{number}")
    monkeypatch.setattr(file_patients, "_MAX_FILES", 12)
    assert "more files not" in str(found())
    assert found().num_files + found().num_unread < 30


def test_what_is_no_dicom_file_is_passed_over(hospital, found, named):
    named(lambda number: f"{NAMED}-{number}")
    config = compose(hospital.overrides())
    first = lesion_files(site_table(config, "HOME").frame, config)[0].lesion_paths[0]
    first.write_bytes(b"no image")
    assert str(found()) == "19 DICOM headers read"


def test_manifest_check_says_it(hospital, named, tmp_path, capsys):
    named(lambda number: {2: NAMED, 5: NAMED}.get(number, f"other-{number}"))
    assert main(["manifest", "check", str(hospital.manifest), "--out", str(tmp_path / "sheet.png")]) == 0
    said = capsys.readouterr().out
    assert "patients     20 DICOM headers read\n" in said
    assert "look at      1 PatientID of DICOM files under several patients" in said
    assert NAMED not in said


@needs_cbis_ddsm
def test_cbis_ddsm_has_an_identifier_of_its_own_for_every_picture():
    config = compose(["preset=cbis_mass", f"data.root={CBIS_DDSM}"])
    found = FilePatients.of(site_table(config, None), config)
    assert found.num_files == 1696
    assert (found.doubt, found.num_unnamed) == (None, 0)
