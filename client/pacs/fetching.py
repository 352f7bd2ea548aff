"""A study's films, fetched from the PACS into the folder of incoming films; checked all before the first is kept."""

from dataclasses import dataclass
from pathlib import Path

from client.deployment.pacs_section import PacsSettings
from client.pacs.incoming import Incoming
from client.pacs.web.dicom_web import fetch_films
from client.pacs.web.service import web_service
from shared_model.errors import FederatedMammographyError
from shared_model.system.audit_log import AuditLog


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What was fetched."""

    paths: tuple[Path, ...]
    num_new: int


def fetch(settings: PacsSettings, audit: AuditLog, study: str) -> Fetched:
    """Fetch a study; a line of the audit log says how it went.

    Raises:
        ConfigError: DICOMweb is not set up.
        PacsError, DicomError, NoRoomError: see ``fetch_films`` and ``Incoming.store``.
        OSError: the folder cannot be written.
    """
    folder = Incoming(
        folder=Path(settings.incoming), max_films=settings.max_films, max_bytes=settings.max_incoming_bytes
    )
    try:
        with web_service(settings) as service:
            films = list(fetch_films(service, study))
        is_new = [folder.store(film) for film in films]
    except FederatedMammographyError as error:
        audit.record("pacs_fetched", outcome=type(error).__name__, num_films=0)
        raise
    audit.record("pacs_fetched", outcome="ok", num_films=len(films), num_new=sum(is_new))
    paths = tuple(folder.path_of(film.study, film.instance) for film in films)
    return Fetched(paths=paths, num_new=sum(is_new))
