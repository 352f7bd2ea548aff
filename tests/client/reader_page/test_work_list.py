"""The work list: bounded looks, what changed alone is read again, and nothing outside the folder."""

import os

import pytest

from client.reader_page import work_list as module
from client.reader_page.work_list import WorkList
from shared_model.vocabulary import Laterality, View
from tests.reader_room import write_film

KEY = b"k" * 32


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.dcm"
    write_film(path)
    return path.read_bytes()


@pytest.fixture
def headers_read(monkeypatch):
    names, read = [], module.read_film_header

    def counted(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(module, "read_film_header", counted)
    return names


def test_a_look_reads_so_many_headers_and_each_only_once(tmp_path, film, headers_read):
    for number in range(7):
        (tmp_path / f"{number}.dcm").write_bytes(film)
    listed = WorkList(tmp_path, KEY)
    assert [listed.look(3).num_unread for _ in range(3)] == [4, 1, 0]
    assert len(listed.look(3).studies[0].films) == 7
    assert sorted(headers_read) == [f"{number}.dcm" for number in range(7)]
    os.utime(tmp_path / "2.dcm", ns=(1, 1))
    (tmp_path / "3.dcm").unlink()
    assert len(listed.look().studies[0].films) == 6
    assert headers_read[7:] == ["2.dcm"]


def test_studies_are_grouped_by_patient_and_study(tmp_path):
    write_film(tmp_path / "a" / "1", seed=1)
    write_film(tmp_path / "b" / "2", view=View.MLO, seed=2)
    write_film(tmp_path / "3", patient="PH-0002", seed=3)
    write_film(tmp_path / "4", study="2.25.7", laterality=Laterality.RIGHT, seed=4)
    write_film(tmp_path / "5", patient="", study="", seed=5)
    write_film(tmp_path / "6", patient="", study="", seed=6)
    studies = WorkList(tmp_path, KEY).look().studies
    found = sorted((study.patient_id, len(study.films), study.sides) for study in studies)
    left, right = (Laterality.LEFT,), (Laterality.RIGHT,)
    one, two = ("PH-0001", 1, right), ("PH-0001", 2, left)
    assert found == [("", 1, left), ("", 1, left), one, two, ("PH-0002", 1, left)]
    assert len({study.patient_key for study in studies}) == 4


def test_one_identifier_of_two_hospitals_is_two_patients(tmp_path):
    write_film(tmp_path / "1", IssuerOfPatientID="HERE")
    write_film(tmp_path / "2", IssuerOfPatientID="THERE", seed=2)
    studies = WorkList(tmp_path, KEY).look().studies
    assert len({study.study_id for study in studies}) == len({study.patient_key for study in studies}) == 2


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("names", [("A" * 79 + "1", "A" * 79 + "2"), ("A\x01B", "A\x02B"), ("A\u202eB", "A\u202fB")])
def test_identifiers_that_would_look_alike_make_no_study_of_two_patients(tmp_path, names):
    for number, name in enumerate(names):
        write_film(tmp_path / str(number), patient=name, seed=number, SpecificCharacterSet="ISO_IR 192")
    listed = WorkList(tmp_path, KEY).look()
    assert listed.studies == ()
    assert [reason.startswith("Expected PatientID of at most 64") for _, reason in listed.problems] == [True, True]


def test_identifiers_say_nothing_and_belong_to_the_key(tmp_path, film):
    (tmp_path / "film.dcm").write_bytes(film)
    first, second = (WorkList(tmp_path, key).look().studies[0] for key in (KEY, b"other"))
    assert first.study_id != second.study_id
    assert first.films[0].film_id != second.films[0].film_id


def test_links_hidden_files_and_pipes_are_left_alone(tmp_path, film):
    outside, folder = tmp_path / "outside", tmp_path / "films"
    for each in (outside, folder):
        each.mkdir()
    (outside / "film.dcm").write_bytes(film)
    (folder / "link.dcm").symlink_to(outside / "film.dcm")
    (folder / "folder").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / ".partial").write_bytes(film)
    os.mkfifo(folder / "pipe.dcm")
    listed = WorkList(folder, KEY).look()
    assert (listed.studies, listed.problems, listed.num_unread) == ((), (), 0)


def test_more_files_than_are_looked_at_are_counted(tmp_path, film, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILES", 2)
    for number in range(5):
        (tmp_path / f"{number}.dcm").write_bytes(film)
    assert WorkList(tmp_path, KEY).look().num_left_out == 3


def test_a_film_for_processing_is_listed_with_the_reason(tmp_path):
    write_film(tmp_path / "raw.dcm", PresentationIntentType="FOR PROCESSING")
    film = WorkList(tmp_path, KEY).look().studies[0].films[0]
    assert "to be FOR PRESENTATION" in film.header.problem
