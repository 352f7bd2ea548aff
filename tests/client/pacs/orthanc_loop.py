"""Runs a day with a real Orthanc and says what it saw as JSON lines; tests/client/pacs/test_orthanc.py starts it.

Debian's Orthanc listens on every interface whatever it is told, so this refuses to run where there is any but loopback.
"""

import json
import socket
import sys
from pathlib import Path

from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE

from client.deployment.pacs_section import read_section
from client.deployment.report_kind import ReportKind
from client.pacs.fetching import fetch
from client.pacs.network.association import echo, find_studies, worklist
from client.pacs.network.receiver import receiving
from client.pacs.queries import StudyQuery
from client.pacs.results.files import write_results
from client.pacs.searching import search
from client.pacs.sending import Way, read_results, send
from shared_model.errors import FederatedMammographyError
from shared_model.system.audit_log import AuditLog, read
from shared_model.vocabulary import View
from simulations.day import orthanc
from tests.pacs_films import PATIENT, STUDY, reading_of


def say(name, value):
    print(json.dumps({name: value}), flush=True)  # noqa: T201, the test reads it


def refusal(call, *arguments, **named):
    """Return the one line of an expected error."""
    try:
        call(*arguments, **named)
    except FederatedMammographyError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def write_worklist(folder):
    entry, step = Dataset(), Dataset()
    entry.file_meta = FileMetaDataset()
    entry.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    entry.file_meta.MediaStorageSOPClassUID = UID("1.2.276.0.7230010.3.1.0.1")
    entry.file_meta.MediaStorageSOPInstanceUID = UID("2.25.7")
    entry.AccessionNumber, entry.PatientName, entry.PatientID = "ACC1", "Phantom^One", PATIENT
    entry.StudyInstanceUID, entry.RequestedProcedureDescription = STUDY, "Mammography"
    step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepID = "MG", "MG1", "1"
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = "20261126", "0900"
    entry.ScheduledProcedureStepSequence = [step]
    entry.save_as(folder / "one.wl", enforce_file_format=True)


def store_as(title, called, port, path, encoded=None):
    """Send a film by C-STORE as another application; return the status, or how the association ended."""
    film = dcmread(path)
    entity = AE(ae_title=title)
    entity.add_requested_context(film.SOPClassUID, [film.file_meta.TransferSyntaxUID])
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return "rejected" if association.is_rejected else "no association"
    if encoded is not None:
        film = encoded(film)
    status = association.send_c_store(film).get("Status")
    association.release()
    return status if status is None else f"0x{status:04X}"


def with_items(film):
    """Return the film with a sequence of 50,000 items, which pydicom would take seconds for."""
    film.add_new(0x00081140, "SQ", [Dataset() for _ in range(50_000)])
    film[0x00081140].is_undefined_length = True
    return film


def with_path(film):
    film.StudyInstanceUID = "../../../tmp/x"
    return film


def with_control(film):
    film.PatientID = "A\x07B"
    return film


def main(folder, films):
    section = orthanc.section(folder, calling=("LAB", "MG1"))
    pacs, audit = read_section(section, folder), AuditLog(folder / "audit.jsonl")
    say("down", [refusal(echo, pacs), refusal(search, pacs, StudyQuery(patient=PATIENT), by_web=True)])
    (folder / "worklists").mkdir()
    write_worklist(folder / "worklists")
    with orthanc.running(folder):
        echo(pacs)
        say("wrong title", refusal(echo, read_section({**section, "called": "NOBODY"}, folder)))
        (folder / "wrong").write_text("wrong")
        (folder / "wrong").chmod(0o600)
        strangers = read_section({**section, "web_password_file": "wrong"}, folder)
        say("wrong password", refusal(search, strangers, StudyQuery(patient=PATIENT), by_web=True))
        say("stored", [store_as("MG1", "LAB", 14242, path) for path in films.values()])
        query = StudyQuery(patient=PATIENT)
        say(
            "found",
            [
                [each.study for each in find(query).studies]
                for find in (lambda asked: find_studies(pacs, asked), lambda asked: search(pacs, asked, by_web=True))
            ],
        )
        say("nobody", len(find_studies(pacs, StudyQuery(patient="NOBODY")).studies))
        say("worklist", [[entry.patient, entry.accession, entry.study] for entry in worklist(pacs, None)])
        first, second = (fetch(pacs, audit, STUDY) for _ in range(2))
        say("fetched", [len(first.paths), first.num_new, second.num_new])
        films_here = {View(dcmread(path).PatientOrientation): path for path in first.paths}
        same = [
            dcmread(films_here[view]).pixel_array.tobytes() == dcmread(films[view]).pixel_array.tobytes()
            for view in films
        ]
        say("same pixels", same)
        say("no such study", refusal(fetch, pacs, audit, "1.2.3.9"))
        reading = reading_of(films_here)
        written = [path for kind in ReportKind for path in write_results(reading, folder / "results", kind)]
        results = read_results(sorted(set(written)))
        say(
            "sent",
            [[each.failure for each in send(pacs, audit, results, way=way)] for way in (Way.STOW, Way.STOW, Way.DIMSE)],
        )
        session = create_session_from_user_pass(username=orthanc.USER, password=orthanc.PASSWORD)
        session.trust_env = False
        found = DICOMwebClient(f"{orthanc.ROOT}/dicom-web", session=session).search_for_instances(
            study_instance_uid=STUDY
        )
        say("in the study", sorted(UID(item["00080016"]["Value"][0]).name for item in found))
        receive(pacs, audit, folder, films, session)
    say("down again", refusal(send, pacs, audit, results, way=Way.STOW))
    lines = read(folder / "audit.jsonl")
    say("audit", [line.event for line in lines])
    say("leaks", [word for word in (PATIENT, "Phantom", "ACC1", STUDY) if word in (folder / "audit.jsonl").read_text()])


def receive(pacs, audit, folder, films, session):
    fresh = read_section({"calling": ["LAB", "MG1"], "incoming": "received", "max_films": 3}, folder)
    with receiving(fresh, audit):
        known = session.get(f"{orthanc.ROOT}/instances", timeout=60).json()
        kinds = {
            each: session.get(f"{orthanc.ROOT}/instances/{each}/simplified-tags", timeout=60).json() for each in known
        }
        mammograms = [each for each, tags in kinds.items() if tags["Modality"] == "MG"]
        answer = session.post(f"{orthanc.ROOT}/modalities/FEDMAMMO/store", json=mammograms, timeout=60).json()
        say("pushed", [answer["InstancesCount"], answer["FailedInstancesCount"]])
        reports = [each for each, tags in kinds.items() if tags["Modality"] == "SR"]
        say("report", session.post(f"{orthanc.ROOT}/modalities/FEDMAMMO/store", json=reports, timeout=60).status_code)
        path = films[View.CC]
        say("again", store_as("MG1", "FEDMAMMO", 11112, path))
        say("stranger", [store_as("STRANGER", "FEDMAMMO", 11112, path), store_as("MG1", "WRONG", 11112, path)])
        for name, change in (("items", with_items), ("path", with_path), ("control", with_control)):
            say(name, store_as("MG1", "FEDMAMMO", 11112, path, change))
        with socket.create_connection(("127.0.0.1", 11112)) as raw:
            # An association request that claims four gigabytes.
            raw.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(100))
            raw.settimeout(30)
            say("huge unit", len(raw.recv(100)))
        say("kept", sorted(path.suffix for path in (folder / "received").rglob("*") if path.is_file()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), {View(name): Path(path) for name, path in (word.split("=") for word in sys.argv[2:])})
