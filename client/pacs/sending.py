"""Results sent to the PACS, file by file, and what it said of each.

Identifiers are made of content, so that what was stored is stored once however often it is sent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
)

from client.data.image_files import MAX_FILE_BYTES
from client.deployment.pacs_section import PacsSettings
from client.pacs.incoming import is_uid
from client.pacs.network.association import associated
from client.pacs.web.dicom_web import store
from client.pacs.web.service import web_service
from shared_model.errors import DicomError, PacsError
from shared_model.system.audit_log import AuditLog

RESULT_CLASSES = (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
)
"""SOP classes of what ``client.pacs.results`` writes."""
_SUCCESS, _DUPLICATE, _COERCED = 0x0000, 0x0111, range(0xB000, 0xC000)


class Way(StrEnum):
    """How results go to the PACS."""

    STOW = "stow"
    DIMSE = "dimse"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One file to send."""

    path: Path
    sop_class: str
    study: str
    instance: str


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What became of one file."""

    path: Path
    failure: str | None
    """None where the PACS says that it has it."""


def read_results(paths: Sequence[Path]) -> tuple[Result, ...]:
    """Read the identifiers of the files to send; all are checked before any is sent.

    Raises:
        DicomError: one is no result that this program writes.
    """
    results = tuple(_read_result(path) for path in paths)
    if len({result.study for result in results}) > 1:
        raise DicomError("Expected results of one study, got several; send them study by study.")
    return results


def send(settings: PacsSettings, audit: AuditLog, results: Sequence[Result], *, way: Way) -> tuple[Sent, ...]:
    """Send each of ``results``; a line of the audit log says how many the PACS has.

    Raises:
        ConfigError: the way is not set up.
        PacsError: nobody answered at all. Once one file is through, a lost connection is a failure of the others.
    """
    sent: list[Sent] = []
    try:
        (_stow if way is Way.STOW else _store)(settings, results, sent.append)
    except PacsError as error:
        if not sent:
            audit.record("pacs_sent", way=str(way), num_stored=0, num_failed=len(results))
            raise
        sent += [Sent(path=result.path, failure=f"not sent: {error}") for result in results[len(sent) :]]
    num_failed = sum(each.failure is not None for each in sent)
    audit.record("pacs_sent", way=str(way), num_stored=len(sent) - num_failed, num_failed=num_failed)
    return tuple(sent)


def _stow(settings: PacsSettings, results: Sequence[Result], note: Callable[[Sent], None]) -> None:
    with web_service(settings) as service:
        for result in results:
            content = result.path.read_bytes()
            failure = store(service, study=result.study, instance=result.instance, content=content)
            note(Sent(path=result.path, failure=failure))


def _store(settings: PacsSettings, results: Sequence[Result], note: Callable[[Sent], None]) -> None:
    classes = sorted({result.sop_class for result in results})
    with associated(
        settings, [(each, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for each in classes]
    ) as association:
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        for result in results:
            if result.sop_class not in accepted:
                note(Sent(path=result.path, failure="the PACS does not take this kind of object"))
                continue
            if not association.is_established:
                raise PacsError("the connection was lost")
            status = association.send_c_store(dcmread(result.path))
            note(Sent(path=result.path, failure=_failure(status)))


def _failure(status: Dataset) -> str | None:
    code = status.get("Status")
    # A duplicate is what a repeated transfer may be told; identifiers are made of content.
    if code in (_SUCCESS, _DUPLICATE) or code in _COERCED:
        return None
    return f"status 0x{code:04X}" if isinstance(code, int) else "no answer"


def _read_result(path: Path) -> Result:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DicomError(f"{path}: Expected at most {MAX_FILE_BYTES} bytes.")
        header = dcmread(path, stop_before_pixels=True)
        found = [str(header.get(name) or "") for name in ("SOPClassUID", "StudyInstanceUID", "SOPInstanceUID")]
    except (AttributeError, InvalidDicomError, LookupError, OSError, TypeError, ValueError) as error:
        raise DicomError(f"{path}: Expected a DICOM file, got {type(error).__name__}.") from error
    sop_class, study, instance = found
    if sop_class not in RESULT_CLASSES or not (is_uid(study) and is_uid(instance)):
        raise DicomError(f"{path}: Expected a structured report, presentation state or picture that was written here.")
    return Result(path=path, sop_class=sop_class, study=study, instance=instance)
