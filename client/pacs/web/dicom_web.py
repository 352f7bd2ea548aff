"""DICOMweb of the PACS (PS3.18): studies searched (QIDO-RS), films fetched (WADO-RS), results stored (STOW-RS)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from client.data.image_files import MAX_FILE_BYTES
from client.pacs.incoming import FILM_CLASSES, Film, film_of_file, is_uid
from client.pacs.queries import MAX_MATCHES, FoundStudy, Matches, StudyQuery, believed
from client.pacs.web.multipart import unwrapped, wrapped
from client.pacs.web.service import Answer, Service
from shared_model.errors import DicomError, PacsError
from shared_model.system.documents import from_json
from shared_model.system.peer_text import peer_text

MAX_JSON_BYTES = 1 << 24
MAX_FILMS = 64
"""Of one study; a mammography has four, with spot views some ten."""
MAX_STUDY_BYTES = 1 << 31
"""Of all films of one study, which are checked before the first is kept."""

_JSON = "application/dicom+json"
_CLASS, _INSTANCE, _SERIES, _STUDY = "00080016", "00080018", "0020000E", "0020000D"
_PATIENT, _ACCESSION, _DAY, _NUM_IMAGES = "00100020", "00080050", "00080020", "00201208"
_FAILED, _STORED, _REFERENCED, _REASON = "00081198", "00081199", "00081155", "00081197"


@dataclass(frozen=True, kw_only=True)
class _Instance:
    series: str
    instance: str


def find_studies(service: Service, query: StudyQuery) -> Matches:
    """Ask for studies with mammograms.

    Raises:
        PacsError: nobody answers, the answer is no answer, or there are more than ``MAX_MATCHES``.
    """
    asked = {
        "ModalitiesInStudy": "MG",
        "PatientID": query.patient,
        "AccessionNumber": query.accession,
        "StudyDate": None if query.day is None else query.day.strftime("%Y%m%d"),
        "StudyInstanceUID": query.study,
        "includefield": _NUM_IMAGES,
        "limit": str(MAX_MATCHES + 1),
    }
    items = _search(service, "/studies", {key: value for key, value in asked.items() if value is not None})
    found = (
        FoundStudy(
            study=_text(item, _STUDY),
            patient=_text(item, _PATIENT),
            accession=_text(item, _ACCESSION),
            day=_text(item, _DAY),
            num_images=_text(item, _NUM_IMAGES),
        )
        for item in items
    )
    return believed(found, query)


def fetch_films(service: Service, study: str) -> Iterator[Film]:
    """Yield the mammograms of a study, one after another.

    What the PACS's index says and what its files say must agree: each film has the study that was asked for, the
    identifier that was asked for, and the patient of the study.

    Raises:
        PacsError: nobody answers, there is no such study, it has more than ``MAX_FILMS``, or a film is another's.
        DicomError: a film is damaged, or is none that is taken in.
    """
    studies = find_studies(service, StudyQuery(study=study)).studies
    if not studies:
        raise PacsError("Expected the PACS to have the study with mammograms, it found none.")
    left = MAX_STUDY_BYTES
    for named in _films(service, study):
        path = f"/studies/{study}/series/{named.series}/instances/{named.instance}"
        accepted = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        answer = service.ask("GET", path, max_bytes=min(left, MAX_FILE_BYTES), headers={"Accept": accepted})
        left -= len(answer.body)
        if answer.status != 200:
            raise PacsError(f"Expected the PACS to hand out a film, got HTTP status {answer.status}.")
        film = film_of_file(unwrapped(answer.media_type, answer.body))
        if (film.study, film.instance) != (study, named.instance) or peer_text(film.patient, 64) != studies[0].patient:
            raise PacsError(
                "Expected films of the study and patient that were asked for, got another's; nothing of it is kept. "
                "Tell who runs the PACS."
            )
        yield film


def store(service: Service, *, study: str, instance: str, content: bytes) -> str | None:
    """Store one file into a study; return None once the PACS says that it has it, else why not.

    Raises:
        PacsError: nobody answers.
    """
    media_type, body = wrapped(content)
    answer = service.ask(
        "POST",
        f"/studies/{study}",
        max_bytes=MAX_JSON_BYTES,
        headers={"Content-Type": media_type, "Accept": _JSON},
        content=body,
    )
    if answer.status not in (200, 202, 409):
        return f"HTTP status {answer.status}"
    try:
        said = from_json(answer.body)
    except ValueError:
        return "an answer that is no JSON"
    if not isinstance(said, dict):
        return "an answer that is no data set"
    reasons = [_text(item, _REASON) for item in _items(said, _FAILED) if _text(item, _REFERENCED) == instance]
    if reasons:
        return f"failure reason {reasons[0] or 'unknown'}"
    is_stored = any(_text(item, _REFERENCED) == instance for item in _items(said, _STORED))
    return None if is_stored else "no word about the instance"


def _films(service: Service, study: str) -> Sequence[_Instance]:
    items = _search(service, f"/studies/{study}/instances", {"limit": str(MAX_MATCHES)})
    found = [
        _Instance(series=_text(item, _SERIES), instance=_text(item, _INSTANCE))
        for item in items
        if _text(item, _CLASS) in FILM_CLASSES
    ]
    for each in found:
        if not (is_uid(each.series) and is_uid(each.instance)):
            raise DicomError("Expected identifiers of the study's films, got something else.")
    if not 1 <= len(found) <= MAX_FILMS:
        raise PacsError(f"Expected 1 to {MAX_FILMS} films in the study, got {len(found)}.")
    return found


def _search(service: Service, path: str, query: Mapping[str, str]) -> Sequence[object]:
    answer = service.ask("GET", path, max_bytes=MAX_JSON_BYTES, headers={"Accept": _JSON}, query=query)
    if answer.status == 204:
        return ()
    found = _json(answer)
    if answer.status != 200 or not isinstance(found, list):
        raise PacsError(f"Expected matches of the PACS, got HTTP status {answer.status}.")
    if len(found) > MAX_MATCHES:
        raise PacsError(f"Expected at most {MAX_MATCHES} matches, got more; ask more narrowly.")
    return found


def _json(answer: Answer) -> object:
    try:
        return from_json(answer.body)
    except ValueError:
        return None


def _text(item: object, tag: str) -> str:
    """Return the first value of an attribute in the DICOM JSON model (PS3.18 F), fit to print; empty without."""
    values = _items(item, tag)
    return peer_text(str(values[0]), most=64) if values and isinstance(values[0], str | int) else ""


def _items(item: object, tag: str) -> Sequence[object]:
    attribute = item.get(tag) if isinstance(item, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else ()
