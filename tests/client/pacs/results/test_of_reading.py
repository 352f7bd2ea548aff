import datetime
import hashlib
import os

import pytest
import yaml
from pydicom import dcmread

from client.deployment.report_kind import ReportKind
from client.pacs.results.files import result_objects
from client.pacs.results.lesion_reading import Outcome
from client.pacs.results.of_reading import lesion_reading
from client.reading.result import (
    Answer,
    Band,
    ColumnRead,
    Contributions,
    Reading,
    Reason,
    ReleaseRead,
    ViewRead,
    Why,
    write_result,
)
from client.reading.result import Outcome as ReadOutcome
from server.deployment.provision import provision
from shared_model.errors import DicomError
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.vocabulary import Laterality, LesionType
from simulations.commands.app import main

NOW = datetime.datetime(2026, 11, 26, 9, 0, tzinfo=datetime.UTC)


def reading_for(films, **changes):
    answer = Answer(
        probability=0.81,
        interval=ConfidenceInterval(low=0.7, high=0.9),
        threshold=0.3,
        threshold_interval=ConfidenceInterval(low=0.2, high=0.4),
        is_above_threshold=True,
        band=Band.HIGH,
        contributions=Contributions(
            base=0.0,
            image=1.0,
            columns=0.5,
            image_share=0.7,
            by_column=(ColumnRead(name="breast_density", value="2", logits=0.5),),
        ),
        novelty_distance=0.5,
        conformal_level=0.9,
        conformal_label="malignant",
        local=None,
    )
    values = {
        "reading_id": "0" * 32,
        "read_at": NOW.isoformat(timespec="seconds"),
        "outcome": ReadOutcome.READ,
        "why": (),
        "answer": answer,
        "views": tuple(
            ViewRead(
                view=view,
                laterality=Laterality.LEFT,
                box=(100, 120, 60, 50),
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                grey_levels=None,
                map=None,
            )
            for view, path in films.items()
        ),
        "when_not_to_trust": ("one reader, one decade",),
        "release": ReleaseRead(
            name="phantom", digest="ab" * 32, is_signed=True, is_signer_known=True, is_approved=True
        ),
        "code": "cd" * 32,
    }
    return Reading(**(values | changes))


def joined(reading, paths):
    return lesion_reading(reading, paths, lesion="lesion 1", lesion_type=LesionType.MASS)


def test_everything_that_the_reading_says_is_carried_over(films):
    found = joined(reading_for(films), [*films.values()][::-1])
    score = found.score
    assert (score.probability, score.low, score.high, score.threshold) == (0.81, 0.7, 0.9, 0.3)
    assert score.contributions == {"image": 1.0, "breast_density": 0.5}
    assert [(film.path, film.view) for film in found.films] == [(path, view) for view, path in films.items()]
    assert (found.release_digest, found.cautions, found.read_at) == ("ab" * 32, ("one reader, one decade",), NOW)
    assert len(result_objects(found, ReportKind.COMPREHENSIVE)) == 5


def test_a_reading_without_an_answer_says_why(films):
    why = (Why(code=Reason.UNDECIDED, text="both labels are possible"),)
    found = joined(reading_for(films, outcome=ReadOutcome.ABSTAINED, why=why, answer=None), list(films.values()))
    assert (found.outcome, found.reason, found.score) == (Outcome.ABSTAINED, "both labels are possible", None)


def test_a_result_is_attached_to_no_other_film_than_the_one_that_was_read(films):
    reading, paths = reading_for(films), list(films.values())
    for given in (paths[:1], paths[:1] * 2, [*paths, paths[0]]):
        with pytest.raises(DicomError, match="Expected the films of the reading"):
            joined(reading, given)
    film = dcmread(paths[0])
    film.PatientID = "SOMEBODY-ELSE"
    film.save_as(paths[0])
    with pytest.raises(DicomError, match="Expected the films of the reading"):
        joined(reading, paths)


def test_a_reading_without_an_opened_film_has_no_result(films):
    why = (Why(code=Reason.FILE, text="raw values"),)
    refused = reading_for(films, outcome=ReadOutcome.REFUSED, why=why, answer=None, views=())
    with pytest.raises(DicomError, match=r"refused before any was \(file\)"):
        joined(refused, list(films.values()))


@pytest.fixture
def site(tmp_path):
    made = provision(
        out=tmp_path / "kits", sites=["mgh"], hosts=["localhost"], port=9092, valid_days=5, approved_bundles=["0" * 64]
    )
    site = made.sites["mgh"] / "site.yaml"
    values = yaml.safe_load(site.read_text()) | {"data_root": ".", "pacs": {"patient_system": "urn:oid:1.2.3"}}
    site.write_text(yaml.safe_dump(values))
    return site


def test_the_command_writes_dicom_and_fhir_twice_alike(films, tmp_path, site):
    write_result(reading_for(films), tmp_path / "result.json")
    contents = []
    for number, out in enumerate(("one", "two")):
        # A copied file has another time, and says the same.
        os.utime(tmp_path / "result.json", (number, number))
        words = [word for path in films.values() for word in ("--film", str(path))]
        command = ["site", "pacs", "results", str(tmp_path / "result.json"), *words, "--out", str(tmp_path / out)]
        assert main([*command, "--site", str(site)]) == 0
        contents.append({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()})
    assert contents[0] == contents[1]
    assert {"report.dcm", "fhir-r4b.json", "fhir-r5.json"} < set(contents[0])


def test_what_an_earlier_reading_left_is_not_taken_for_this_ones(films, tmp_path, site):
    write_result(reading_for(films), tmp_path / "result.json")
    words = [word for path in films.values() for word in ("--film", str(path))]
    command = ["site", "pacs", "results", str(tmp_path / "result.json"), *words, "--out", str(tmp_path / "out")]
    reports = []
    for kind in ReportKind:
        assert main([*command, "--report", kind, "--site", str(site)]) == 0
        reports.append([path.name for path in (tmp_path / "out").glob("*report.dcm")])
    assert reports == [["report.dcm"], ["cad-report.dcm"]]


@pytest.mark.parametrize("lesion", ["", " ", "\x1b\n"])
def test_a_lesion_without_a_name_has_no_result(films, lesion):
    """A tracking identifier is a text of one character at least."""
    with pytest.raises(DicomError, match="Expected a name of the lesion"):
        lesion_reading(reading_for(films), list(films.values()), lesion=lesion, lesion_type=LesionType.MASS)


def test_a_number_of_another_issuer_is_not_the_hospitals_patient(films, tmp_path, site, capsys):
    for path in films.values():
        film = dcmread(path)
        film.IssuerOfPatientID = "OTHER"
        film.save_as(path)
    write_result(reading_for(films), tmp_path / "result.json")
    words = [word for path in films.values() for word in ("--film", str(path))]
    command = ["site", "pacs", "results", str(tmp_path / "result.json"), *words, "--out", str(tmp_path / "out")]
    assert main([*command, "--site", str(site)]) == 1
    assert "IssuerOfPatientID" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("fhir*"))
    # The results are of the film's own study, and say whose number it is.
    assert {dcmread(path).IssuerOfPatientID for path in (tmp_path / "out").glob("*.dcm")} == {"OTHER"}
    values = yaml.safe_load(site.read_text())
    values["pacs"]["patient_issuer"] = "OTHER"
    site.write_text(yaml.safe_dump(values))
    assert main([*command, "--site", str(site)]) == 0
    assert len(list((tmp_path / "out").glob("fhir*"))) == 2
