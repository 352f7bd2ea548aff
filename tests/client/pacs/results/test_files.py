"""The DICOM files of a reading: valid by another's program, in the film's study, the same for the same reading."""

import shutil
import subprocess

import numpy as np
import pytest
from pydicom import dcmread

from client.data.preprocessing import Box
from client.deployment.report_kind import ReportKind
from client.pacs.results.files import result_objects, write_results
from client.pacs.results.identity import encoded
from client.pacs.results.lesion_reading import MarkedFilm
from client.reading.result import MAP_SIDE, FilmMap
from shared_model.errors import DicomError
from shared_model.vocabulary import View
from tests.pacs_films import PATIENT, STUDY, abstained, header_of, reading_of, write_films

NEEDS_VALIDATOR = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy is not installed: apt-get install dicom3tools"
)
READINGS = pytest.mark.parametrize("make", [reading_of, abstained])


def objects_of(reading, report=ReportKind.COMPREHENSIVE):
    return result_objects(reading, report)


@pytest.mark.pacs
@NEEDS_VALIDATOR
@READINGS
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_another_program_finds_no_error(films, tmp_path, make, photometric):
    for path in films.values():
        film = dcmread(path)
        film.PhotometricInterpretation = photometric
        film.save_as(path)
    for path in write_results(make(films), tmp_path / "out", ReportKind.COMPREHENSIVE):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)  # noqa: S603, S607
        assert "Error" not in done.stderr + done.stdout, (path.name, done.stderr)
        assert done.returncode == 0


def test_results_have_the_films_patient_and_study(films):
    made = objects_of(reading_of(films))
    assert sorted(made) == ["picture-cc.dcm", "picture-mlo.dcm", "report.dcm", "state-cc.dcm", "state-mlo.dcm"]
    for each in made.values():
        assert (each.StudyInstanceUID, each.PatientID, each.AccessionNumber) == (STUDY, PATIENT, "ACC1")
        assert str(each.PatientName) == "Phantom^One"
    series = {name.partition("-")[0]: each.SeriesInstanceUID for name, each in made.items()}
    films_series = {header_of(path).SeriesInstanceUID for path in films.values()}
    assert len({*series.values(), *films_series}) == 3 + len(films_series)


@READINGS
def test_the_same_reading_gives_the_same_bytes_and_another_another_identifier(films, make):
    first, second = (objects_of(make(films)) for _ in range(2))
    assert {name: encoded(each) for name, each in first.items()} == {
        name: encoded(each) for name, each in second.items()
    }
    other = objects_of(make(films, cautions=("something else",)))
    assert other["report.dcm"].SOPInstanceUID != first["report.dcm"].SOPInstanceUID
    assert other["report.dcm"].SeriesInstanceUID == first["report.dcm"].SeriesInstanceUID
    assert len({each.SOPInstanceUID for each in first.values()}) == 5


def numbers(item):
    """Return the numbers of a report by their meaning."""
    found = {}
    for child in item.get("ContentSequence") or ():
        if child.ValueType == "NUM":
            name = child.ConceptNameCodeSequence[0].CodeMeaning
            found[name] = float(child.MeasuredValueSequence[0].NumericValue)
        found |= numbers(child)
    return found


def texts(item):
    return [
        text
        for child in item.get("ContentSequence") or ()
        for text in ([child.TextValue] if child.ValueType == "TEXT" else texts(child))
    ]


def test_the_report_says_what_the_reading_says(films):
    report = objects_of(reading_of(films))["report.dcm"]
    assert numbers(report) == {
        "Probability of cancer": 81.0,
        "Lower bound of 95 % interval": 70.0,
        "Upper bound of 95 % interval": 90.0,
        "Operating threshold": 30.0,
    }
    said = " ".join(texts(report))
    assert "Not for diagnosis: research software" in said
    assert "one reader, one decade" in said
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_a_reading_without_an_answer_has_no_number_anywhere(films):
    made = objects_of(abstained(films))
    assert numbers(made["report.dcm"]) == {}
    assert "Abstained: both labels are possible" in texts(made["report.dcm"])
    assert all(b"Probability of malignancy" not in encoded(each) for each in made.values())


def test_the_state_draws_the_box_and_keeps_the_films_grey_scale(films):
    film = dcmread(films[View.CC])
    film.PhotometricInterpretation = "MONOCHROME1"
    film.save_as(films[View.CC])
    states = objects_of(reading_of(films))
    state = states["state-cc.dcm"]
    (annotation,) = state.GraphicAnnotationSequence
    assert annotation.GraphicObjectSequence[0].GraphicData == [100, 120, 160, 120, 160, 170, 100, 170, 100, 120]
    assert state.PresentationLUTShape == "INVERSE"
    assert state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID == film.SOPInstanceUID


def test_the_picture_has_box_and_map_and_leaves_the_rest_of_the_film(films):
    marked = reading_of(films)
    plain = reading_of(films, films=tuple(MarkedFilm(path=path, view=view, box=None) for view, path in films.items()))
    with_box, without = (objects_of(each)["picture-cc.dcm"].pixel_array for each in (marked, plain))
    band = (with_box.shape[0] - 512) // 3
    differs = (with_box[band : band + 512] != without[band : band + 512]).any(axis=2)
    rows, columns = np.nonzero(differs)
    assert (rows.min(), columns.min()) >= (110, 95)
    assert rows.max() <= 180
    assert columns.max() <= 165
    assert (with_box[:band] > 0).any(), "the warning is above the film"


@pytest.mark.parametrize("square", [(95, 110, 64), (-20, -30, 160), (250, 350, 200), (-20000, -20000, 65536)])
def test_the_map_lies_where_the_network_looked(films, square):
    """One cell of the map is warm: the picture is redder there, and as it was everywhere else on the film."""
    cell = (5, 9)
    if square[2] > 60000:
        # The cell that holds the film's middle.
        cell = int((256 - square[1]) * MAP_SIDE / square[2]), int((192 - square[0]) * MAP_SIDE / square[2])
    levels = np.zeros((MAP_SIDE, MAP_SIDE), np.uint8)
    levels[cell] = 255
    warm = FilmMap(square=square, values=levels.tobytes().hex())

    def drawn(found):
        marked = tuple(MarkedFilm(path=path, view=view, box=None, map=found) for view, path in films.items())
        return objects_of(reading_of(films, films=marked))["picture-cc.dcm"].pixel_array

    with_map, without = drawn(warm), drawn(FilmMap(square=square, values="00" * MAP_SIDE**2))
    band = (with_map.shape[0] - 512) // 3
    rows, columns = np.nonzero((with_map != without)[band : band + 512].any(axis=2))
    assert len(rows)
    side = square[2] / MAP_SIDE
    left, top = square[0] + cell[1] * side, square[1] + cell[0] * side
    assert left - side <= columns.min() <= columns.max() <= left + 2 * side
    assert top - side <= rows.min() <= rows.max() <= top + 2 * side


def test_a_box_beyond_the_film_is_refused(films):
    away = tuple(
        MarkedFilm(path=path, view=view, box=Box(x=380, y=1, width=60, height=9)) for view, path in films.items()
    )
    with pytest.raises(DicomError, match="on a film of 384 x 512 pixels"):
        objects_of(reading_of(films, films=away))


def test_films_of_two_patients_or_studies_are_refused(films, phantom_films, tmp_path):
    for changes in ({"patient": "SOMEBODY-ELSE"}, {"study": "1.2.9"}):
        other = write_films(phantom_films, tmp_path / "other", **changes)
        with pytest.raises(DicomError, match="one patient and one study, got 2"):
            objects_of(reading_of({View.CC: films[View.CC], View.MLO: other[View.MLO]}))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hostile_headers_are_refused_or_left_behind(films):
    film = dcmread(films[View.CC])
    film.PatientSex, film.PatientBirthDate, film.PatientOrientation = "X", "yesterday", "CC"
    film.save_as(films[View.CC])
    report = objects_of(reading_of({View.CC: films[View.CC]}))["report.dcm"]
    assert (report.PatientSex, report.PatientBirthDate) == ("", "")
    film.AccessionNumber = "A\x1b[31m"
    film.save_as(films[View.CC])
    with pytest.raises(DicomError, match="AccessionNumber without control characters"):
        objects_of(reading_of({View.CC: films[View.CC]}))


def test_text_of_a_release_cannot_leave_ascii(films):
    made = objects_of(reading_of(films, release="\u202emäß\x1b", cautions=("schön\n\n# x",)))
    assert all(text.isascii() and text.isprintable() for text in texts(made["report.dcm"]))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientID", ["PHANTOM-1", "PHANTOM-2"]),
        ("PatientID", "P" * 65),
        ("PatientName", "N" * 5000),
        ("AccessionNumber", "A" * 65),
    ],
)
def test_texts_that_the_standard_does_not_know_are_in_no_result(films, name, value):
    """A patient of two identifiers is nobody, and what is too long may be cut where it is kept: another patient's."""
    film = dcmread(films[View.CC])
    setattr(film, name, value)
    film.save_as(films[View.CC])
    with pytest.raises(DicomError, match=f"Expected {name} of one value"):
        objects_of(reading_of({View.CC: films[View.CC]}))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_digits_of_other_scripts_are_no_date(films):
    film = dcmread(films[View.CC])
    film.SpecificCharacterSet = "ISO_IR 192"
    film.add_new("StudyTime", "LO", "\u0661\u0662")
    film.save_as(films[View.CC])
    assert objects_of(reading_of({View.CC: films[View.CC]}))["report.dcm"].StudyTime == ""


@pytest.mark.parametrize(
    ("character_set", "name", "written"),
    [
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046",
            ["ISO 2022 IR 6", "ISO 2022 IR 87"],
        ),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=\u6d2a^\u5409\u6d1e=\ud64d^\uae38\ub3d9", "ISO_IR 192"),
        ("GB18030", "Wang^XiaoDong=\u738b^\u5c0f\u4e1c", "GB18030"),
        ("ISO_IR 100", "Buc^J\u00e9r\u00f4me", "ISO_IR 100"),
        ("ISO_IR 144", "\u041b\u044e\u043ace\u043c\u0431yp\u0433", "ISO_IR 144"),
    ],
)
@pytest.mark.parametrize("kind", ReportKind)
def test_names_in_the_scripts_of_the_standard_stay_as_they_are(films, tmp_path, character_set, name, written, kind):
    """Code extensions with an empty first value (PS3.3 C.12.1.1.2) are what films from Japan and Korea have."""
    film = dcmread(films[View.CC])
    film.SpecificCharacterSet, film.PatientName = character_set, name
    film.save_as(films[View.CC])
    for file, made in objects_of(reading_of({View.CC: films[View.CC]}), kind).items():
        made.save_as(tmp_path / file)
        found = dcmread(tmp_path / file)
        assert (str(found.PatientName), found.SpecificCharacterSet) == (name, written)
