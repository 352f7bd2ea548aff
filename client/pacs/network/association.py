"""Associations with the PACS that this side asks for: echo, search, worklist, send."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TypeVar

from pydicom import Dataset
from pydicom.errors import BytesLengthException
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association

from client.deployment.pacs_section import PacsSettings
from client.pacs.network.bounds import VERIFICATION, bounding
from client.pacs.queries import MAX_MATCHES, FoundStudy, Matches, StudyQuery, WorklistEntry, believed
from shared_model.errors import PacsError
from shared_model.system.peer_text import peer_text

MAX_ANSWER_BYTES = 1 << 24
"""Of all answers to one question."""
_STUDY_ROOT, _WORKLIST = UID("1.2.840.10008.5.1.4.1.2.2.1"), UID("1.2.840.10008.5.1.4.31")
"""SOP classes of C-FIND (PS3.6 A): Study Root Query/Retrieve, Modality Worklist."""
_SECONDS = 30.0
_PENDING, _SUCCESS = (0xFF00, 0xFF01), 0x0000
Found = TypeVar("Found")


@contextmanager
def associated(
    settings: PacsSettings, contexts: Iterable[tuple[UID | str, Sequence[UID | str] | None]]
) -> Iterator[Association]:
    """Associate with the PACS, and release at the end of the block.

    Args:
        settings: with ``called`` and ``host``.
        contexts: SOP classes with their transfer syntaxes; None for the usual ones.

    Raises:
        ConfigError: ``called`` or ``host`` is missing.
        PacsError: nobody answers there, or it does not want to talk.
    """
    settings.require("called", "host")
    entity = AE(ae_title=settings.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _SECONDS
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, None if syntaxes is None else list(syntaxes))
    association = entity.associate(
        str(settings.host), settings.port, ae_title=str(settings.called), evt_handlers=bounding(MAX_ANSWER_BYTES)
    )
    where = f"{settings.called} at {settings.host}:{settings.port}"
    if association.is_rejected:
        raise PacsError(
            f"Expected {where} to accept {settings.ae_title}, it rejected the association; enter that AE title there, "
            "and check called in site.yaml."
        )
    if not association.is_established:
        raise PacsError(f"Expected {where} to answer, got no association; is it running, and are host and port right?")
    try:
        yield association
    finally:
        association.release()


def echo(settings: PacsSettings) -> None:
    """Ask the PACS whether it hears (C-ECHO).

    Raises:
        ConfigError, PacsError: as ``associated``; or it answers with a failure.
    """
    with associated(settings, [(VERIFICATION, None)]) as association:
        status = association.send_c_echo().get("Status")
    if status != _SUCCESS:
        raise PacsError(f"Expected C-ECHO to succeed, got {_shown(status)}.")


def find_studies(settings: PacsSettings, query: StudyQuery) -> Matches:
    """Ask for studies with mammograms (C-FIND, study root).

    Raises:
        ConfigError, PacsError: as ``associated``; or the PACS refuses, or finds more than ``MAX_MATCHES``.
    """
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.ModalitiesInStudy = "MG"
    asked.PatientID = query.patient or ""
    asked.AccessionNumber = query.accession or ""
    asked.StudyDate = "" if query.day is None else query.day.strftime("%Y%m%d")
    asked.StudyInstanceUID = query.study or ""
    asked.NumberOfStudyRelatedInstances = ""
    found = _find(settings, asked, _STUDY_ROOT, _found_study)
    return believed(found, query)


def worklist(settings: PacsSettings, day: date | None) -> tuple[WorklistEntry, ...]:
    """Ask for planned mammographies (modality worklist), of one day or all.

    Raises:
        ConfigError, PacsError: as ``find_studies``.
    """
    step, asked = Dataset(), Dataset()
    step.Modality = "MG"
    step.ScheduledStationAETitle = step.ScheduledProcedureStepStartTime = ""
    step.ScheduledProcedureStepStartDate = "" if day is None else day.strftime("%Y%m%d")
    asked.PatientID = asked.AccessionNumber = asked.StudyInstanceUID = ""
    asked.ScheduledProcedureStepSequence = [step]
    return tuple(_find(settings, asked, _WORKLIST, _worklist_entry))


def _find(settings: PacsSettings, asked: Dataset, model: UID, understand: Callable[[Dataset], Found]) -> list[Found]:
    found: list[Found] = []
    with associated(settings, [(model, None)]) as association:
        for status, answer in association.send_c_find(asked, model):
            code = status.get("Status")
            if code in _PENDING and answer is not None:
                try:
                    found.append(understand(answer))
                except (AttributeError, BytesLengthException, LookupError, TypeError, ValueError) as error:
                    association.abort()
                    raise PacsError(f"Expected readable matches, got {type(error).__name__}.") from error
            elif code != _SUCCESS:
                raise PacsError(f"Expected C-FIND to succeed, got {_shown(code)}.")
            if len(found) > MAX_MATCHES:
                association.abort()
                raise PacsError(f"Expected at most {MAX_MATCHES} matches, got more; ask more narrowly.")
    return found


def _found_study(answer: Dataset) -> FoundStudy:
    return FoundStudy(
        study=_text(answer, "StudyInstanceUID"),
        patient=_text(answer, "PatientID"),
        accession=_text(answer, "AccessionNumber"),
        day=_text(answer, "StudyDate"),
        num_images=_text(answer, "NumberOfStudyRelatedInstances"),
    )


def _worklist_entry(answer: Dataset) -> WorklistEntry:
    steps = answer.get("ScheduledProcedureStepSequence") or [Dataset()]
    return WorklistEntry(
        patient=_text(answer, "PatientID"),
        accession=_text(answer, "AccessionNumber"),
        study=_text(answer, "StudyInstanceUID"),
        day=_text(steps[0], "ScheduledProcedureStepStartDate"),
        time=_text(steps[0], "ScheduledProcedureStepStartTime"),
        station=_text(steps[0], "ScheduledStationAETitle"),
    )


def _text(answer: Dataset, keyword: str) -> str:
    value = answer.get(keyword)
    return "" if value is None else peer_text(str(value), most=64)


def _shown(status: object) -> str:
    return f"status 0x{status:04X}" if isinstance(status, int) else "no answer"
