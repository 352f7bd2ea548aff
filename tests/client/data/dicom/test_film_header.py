"""A film's header: what a work list shows of it, whatever its pixels are."""

import pytest

from client.data.dicom.film_header import read_film_header
from client.pacs.results.film_header import read_header
from shared_model.errors import DicomError
from shared_model.vocabulary import Laterality, View
from tests.reader_room import write_film


def test_a_header_says_patient_study_side_and_view(tmp_path):
    write_film(tmp_path / "a", view=View.MLO, laterality=Laterality.RIGHT, SeriesDescription="R MLO")
    header = read_film_header(tmp_path / "a")
    assert (header.patient_id, header.study, header.study_date) == ("PH-0001", "2.25.1", "2026-01-05")
    assert (header.laterality, header.view, header.description) == (Laterality.RIGHT, View.MLO, "R MLO")
    assert (header.rows, header.columns, header.problem) == (1536, 1152, None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"Modality": "CT"}, "Expected Modality"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "to be FOR PRESENTATION"),
        ({"Laterality": "R"}, "to agree with Laterality"),
    ],
)
def test_what_speaks_against_a_film_is_told(tmp_path, changes, problem):
    write_film(tmp_path / "a", **changes)
    assert problem in read_film_header(tmp_path / "a").problem


def test_text_of_a_film_is_one_short_printable_line(tmp_path):
    write_film(tmp_path / "a", SeriesDescription="x\x1b[31m" + "y" * 50)
    assert read_film_header(tmp_path / "a").description == "x [31m" + "y" * 50


def test_what_is_no_film(tmp_path):
    (tmp_path / "a").write_bytes(b"DICM, or not")
    with pytest.raises(DicomError, match="Expected a DICOM image"):
        read_film_header(tmp_path / "a")
    write_film(tmp_path / "b", Rows=0)
    with pytest.raises(DicomError, match="Expected a film, got a DICOM object without picture"):
        read_film_header(tmp_path / "b")


def test_page_and_pacs_say_the_same_of_a_damaged_header(tmp_path):
    path = tmp_path / "a"
    write_film(path)
    content = path.read_bytes()
    # A whole number of one byte.
    rows = content.index(b"\x28\x00\x10\x00US\x02\x00")
    path.write_bytes(content[: rows + 6] + b"\x01\x00" + content[rows + 8 : rows + 9] + content[rows + 10 :])
    said = []
    for read in (read_film_header, read_header):
        with pytest.raises(DicomError, match="Expected a readable DICOM image") as found:
            read(path)
        said.append(str(found.value))
    assert said[0] == said[1]
