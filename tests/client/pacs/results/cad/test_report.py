"""The Mammography CAD SR: what its template demands, what it must not claim, and what two other programs say of it."""

import shutil
import subprocess

import pytest
from pydicom import dcmread, uid

from client.deployment.report_kind import ReportKind
from client.pacs.results.files import result_objects, write_results
from client.pacs.results.identity import encoded
from client.pacs.results.lesion_reading import MarkedFilm, Outcome
from shared_model.errors import DicomError
from shared_model.vocabulary import LesionType, View
from tests.pacs_films import abstained, reading_of

# PS3.16, TID 4000 and what it includes: below each concept, the relationship, kind and concept of what may stand
# there, in this order. None is an image of the library, ... a reference to one.
ALGORITHM = ("111001", "111003", "111002")
TRACKING = [("HAS OBS CONTEXT", "TEXT", "112039"), ("HAS OBS CONTEXT", "UIDREF", "112040")]
INTENT = ("HAS CONCEPT MOD", "CODE", "111056")
REGION = ("HAS PROPERTIES", "TEXT", "111058")


def properties(kind, *concepts, relationship="HAS PROPERTIES"):
    return [(relationship, kind, concept) for concept in concepts]


TEMPLATE = {
    "111036": [  # TID 4000
        ("HAS CONCEPT MOD", "CODE", "121049"), ("CONTAINS", "CONTAINER", "111028"), ("CONTAINS", "CODE", "111017"),
        ("CONTAINS", "CODE", "111064"), ("CONTAINS", "CODE", "111065"),
    ],
    "111028": [("CONTAINS", "IMAGE", None)],
    None: [  # TID 4020
        *properties("CODE", "111027", "111031", relationship="HAS ACQ CONTEXT"),
        *properties("TEXT", "111044", "111043", relationship="HAS ACQ CONTEXT"),
        ("HAS ACQ CONTEXT", "DATE", "111060"), ("HAS ACQ CONTEXT", "TIME", "111061"),
        *properties("NUM", "111026", "111066", relationship="HAS ACQ CONTEXT"),
    ],
    "111017": [*properties("TEXT", "111033", *ALGORITHM), ("INFERRED FROM", "CONTAINER", "111034")],  # TID 4001, 4002
    "111034": [  # TID 4003, 4002
        INTENT, *properties("TEXT", "111033", *ALGORITHM, relationship="CONTAINS"),
        ("CONTAINS", "CODE", "111015"), ("CONTAINS", "CODE", "111059"),
    ],
    "111015": [  # TID 4004, 4005
        INTENT, *TRACKING, *properties("CODE", "111016", "111057"), *properties("TEXT", *ALGORITHM),
        *properties("NUM", "111047"), REGION, ("INFERRED FROM", "CODE", "111059"),
    ],
    "111059": [  # TID 4006, 4021, 4013
        INTENT, *TRACKING, *properties("TEXT", *ALGORITHM), *properties("SCOORD", "111010", "111041"), REGION,
    ],
    "111010": [("SELECTED FROM", ..., ...)],
    "111041": [("SELECTED FROM", ..., ...)],
    "111065": [("INFERRED FROM", "CONTAINER", "111062"), ("INFERRED FROM", "CONTAINER", "111024")],  # TID 4016
    "111062": [("CONTAINS", "CODE", "111004")],
    "111024": [("CONTAINS", "CODE", "111004")],
    "111004": [*properties("TEXT", *ALGORITHM), ("HAS PROPERTIES", ..., ...)],  # TID 4018
}  # fmt: skip


def report_of(reading):
    return result_objects(reading, ReportKind.CAD)["cad-report.dcm"]


def refused(films, **changes):
    return reading_of(films, outcome=Outcome.REFUSED, reason="a negative film", score=None, **changes)


def of_one_view(films):
    return reading_of({View.CC: films[View.CC]})


READINGS = pytest.mark.parametrize("make", [reading_of, of_one_view, abstained, refused])


def concept(item):
    if "ReferencedContentItemIdentifier" in item:
        return ...
    return item.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in item else None


def children(item, wanted=None):
    return [each for each in item.get("ContentSequence") or () if wanted is None or concept(each) == wanted]


def descendants(item, wanted=None):
    found = children(item, wanted)
    for child in children(item):
        found += descendants(child, wanted)
    return found


def value(item):
    return item.ConceptCodeSequence[0].CodeMeaning


def require_template(item):
    """Check an item's descendants against ``TEMPLATE``: the right kinds, in the right order."""
    rows = TEMPLATE.get(concept(item), [])
    found = [(each.RelationshipType, each.get("ValueType", ...), concept(each)) for each in children(item)]
    places = [rows.index(each) for each in found]
    assert places == sorted(places), found
    for child in children(item):
        require_template(child)


@READINGS
def test_it_has_what_the_template_has_and_in_its_order(films, make):
    film = dcmread(films[View.CC])
    film.PatientOrientation, film.ImagerPixelSpacing, film.StudyTime = ["A", "R"], [0.1, 0.07], "1010"
    film.save_as(films[View.CC])
    report = report_of(make(films))
    assert report.SOPClassUID == report.file_meta.MediaStorageSOPClassUID == uid.MammographyCADSRStorage
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "4000"
    require_template(report)
    assert [concept(each) for each in children(report)] == ["121049", "111028", "111017", "111064", "111065"]
    spacing = [descendants(report, code)[0].MeasuredValueSequence[0].NumericValue for code in ("111026", "111066")]
    assert spacing == [0.07, 0.1], "across and down"


@READINGS
def test_every_reference_is_to_a_film_of_the_library(films, make):
    reading = make(films)
    report = report_of(reading)
    referenced = set()
    for item in descendants(report, ...):
        found = report
        first, *places = item.ReferencedContentItemIdentifier
        assert first == 1, "the root"
        for place in places:
            found = found.ContentSequence[place - 1]
        assert found.ValueType == "IMAGE"
        referenced.add(found.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    expected = {str(dcmread(film.path, stop_before_pixels=True).SOPInstanceUID) for film in reading.films}
    assert referenced == (set() if reading.outcome is Outcome.REFUSED else expected)


@READINGS
def test_nothing_is_said_to_be_detected(films, make):
    report = report_of(make(films))
    (detections,) = children(report, "111064")
    assert value(detections) == "Not Attempted"
    assert children(detections) == []
    for finding in (*descendants(report, "111059"), *descendants(report, "111015")):
        assert value(finding) == "Selected region"
        (said,) = children(finding, "111058")
        assert said.TextValue == "mass, marked by a person; nothing was detected"
    assert {value(each) for each in descendants(report, "111056")} <= {
        "Presentation Optional: Rendering device may present"
    }


@pytest.mark.parametrize(
    ("make", "summary", "analyses"),
    [
        (reading_of, "All algorithms succeeded; with findings", "Succeeded"),
        (abstained, "No algorithms succeeded; without findings", "Failed"),
        (refused, "No algorithms succeeded; without findings", "Not Attempted"),
    ],
)
def test_the_outcome(films, make, summary, analyses):
    report = report_of(make(films))
    assert value(children(report, "111017")[0]) == summary
    assert value(children(report, "111065")[0]) == analyses
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_the_probability_belongs_to_what_is_marked_on_both_films(films):
    report = report_of(reading_of(films))
    (number,) = descendants(report, "111047")
    assert number.MeasuredValueSequence[0].NumericValue == 81
    assert number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "%"
    (feature,) = descendants(report, "111015")
    assert number in children(feature)
    regions = children(feature, "111059")
    assert [children(each, "111041")[0].GraphicData for each in regions] == [
        [100, 120, 160, 120, 160, 170, 100, 170, 100, 120]
    ] * 2
    assert [children(each, "111010")[0].GraphicData for each in regions] == [[130, 145]] * 2


def test_of_one_view_the_probability_stands_in_words_alone(films):
    """TID 4006 allows no probability of a selected region, and a composite feature is of two items at least."""
    report = report_of(of_one_view(films))
    assert descendants(report, "111047") == descendants(report, "111015") == []
    assert len(descendants(report, "111059")) == 1
    assert descendants(report, "111033")[0].TextValue.startswith("Probability of malignancy 81 % (95 % interval 70 to")


@READINGS
def test_the_warning_stands_with_it(films, make):
    (said,) = descendants(report_of(make(films)), "111033")
    assert "Not for diagnosis: research software" in said.TextValue
    assert "one reader, one decade" in said.TextValue
    assert all(line.isascii() and line.isprintable() for line in said.TextValue.splitlines())


@pytest.mark.parametrize("make", [abstained, refused])
def test_without_an_answer_there_is_no_number_and_no_finding(films, make):
    reading = make(films)
    report = report_of(reading)
    assert descendants(report, "111047") == descendants(report, "111059") == []
    assert b"Probability of malignancy" not in encoded(report)
    assert reading.reason in descendants(report, "111033")[0].TextValue


def test_a_probability_of_what_nobody_has_marked_has_no_place(films):
    unmarked = tuple(MarkedFilm(path=path, view=view, box=None) for view, path in films.items())
    with pytest.raises(DicomError, match="a lesion that is marked on a film"):
        report_of(reading_of(films, films=unmarked))
    assert descendants(report_of(abstained(films, films=unmarked)), "111033")


def test_the_same_reading_gives_the_same_bytes_in_a_series_of_its_own(films):
    first, second = (report_of(reading_of(films)) for _ in range(2))
    assert encoded(first) == encoded(second)
    other = report_of(reading_of(films, lesion_type=LesionType.CALCIFICATION))
    assert other.SOPInstanceUID != first.SOPInstanceUID
    assert other.SeriesInstanceUID == first.SeriesInstanceUID
    comprehensive = result_objects(reading_of(films), ReportKind.COMPREHENSIVE)["report.dcm"]
    assert comprehensive.SeriesInstanceUID != first.SeriesInstanceUID


@pytest.mark.pacs
@READINGS
@pytest.mark.parametrize(
    ("program", "package"), [("dciodvfy", "dicom3tools"), ("dsrdump", "dcmtk")], ids=["dciodvfy", "dsrdump"]
)
def test_another_program_finds_no_error(films, tmp_path, make, program, package):
    """``dsrdump`` knows which relationships a Mammography CAD SR may have (PS3.3 A.35.5), ``dciodvfy`` its modules."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    path = next(each for each in write_results(make(films), tmp_path, ReportKind.CAD) if each.name == "cad-report.dcm")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)  # noqa: S603
    said = done.stderr + done.stdout
    assert not [line for line in said.splitlines() if line.startswith(("Error", "E:", "F:"))], said
    assert done.returncode == 0
