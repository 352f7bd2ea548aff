"""Films that a PACS or a modality sends here (C-STORE SCP), and its question whether anybody hears (C-ECHO SCP)."""

import logging
import threading
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from client.data.image_files import MAX_FILE_BYTES
from client.deployment.pacs_section import PacsSettings
from client.pacs.incoming import FILM_CLASSES, FILM_SYNTAXES, Incoming, NoRoomError, OtherFilmError, film_of
from client.pacs.network.bounds import VERIFICATION, bounding
from shared_model.errors import ConfigError, DicomError
from shared_model.system.audit_log import AuditLog

logger = logging.getLogger(__name__)

STORED, DUPLICATE, NO_ROOM, OTHER, UNREADABLE = 0x0000, 0x0111, 0xA700, 0xA900, 0xC000
"""Statuses of C-STORE (PS3.4 B.2.3, PS3.7 C.5): success; duplicate SOP instance; out of resources; the data set is not
what the request says; cannot understand."""
_MAX_ASSOCIATIONS = 8
_SECONDS = 60.0


@contextmanager
def receiving(settings: PacsSettings, audit: AuditLog) -> Iterator[None]:
    """Take films in until the block ends, from the AE titles of ``settings.calling`` only.

    Raises:
        ConfigError: ``calling`` is empty, or the port cannot be had.
    """
    if not settings.calling:
        raise ConfigError("Expected calling in the section pacs of site.yaml: the AE titles that may send films.")
    folder = Incoming(
        folder=Path(settings.incoming), max_films=settings.max_films, max_bytes=settings.max_incoming_bytes
    )
    desk = _Desk(folder=folder, audit=audit)
    entity = AE(ae_title=settings.ae_title)
    entity.require_calling_aet = list(settings.calling)
    entity.require_called_aet = True
    entity.maximum_associations = _MAX_ASSOCIATIONS
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
    entity.add_supported_context(VERIFICATION)
    for sop_class in FILM_CLASSES:
        entity.add_supported_context(sop_class, list(FILM_SYNTAXES))
    handlers: list[evt.EventHandlerType] = [
        *bounding(2 * MAX_FILE_BYTES),
        (evt.EVT_C_STORE, desk.store),
        (evt.EVT_REJECTED, desk.count_rejected),
    ]
    where = (settings.listen_host, settings.listen_port)
    try:
        server = entity.start_server(where, block=False, evt_handlers=handlers)
    except OSError as error:
        raise ConfigError(
            f"Expected to listen on {where[0]}:{where[1]}: {error.strerror}; see listen_host and listen_port."
        ) from error
    try:
        yield
    finally:
        entity.shutdown()
        if server is not None:
            server.server_close()


@dataclass
class _Desk:
    """Answers requests, each with a line of the audit log."""

    folder: Incoming
    audit: AuditLog
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _num_rejected: int = 0

    def store(self, event: Event) -> int:
        """Return the status of one film."""
        encoded = event.encoded_dataset(include_meta=False)
        status, is_new = self._status(event, encoded)
        self.audit.record(
            "pacs_received",
            peer=str(event.assoc.requestor.ae_title).strip(),
            status=f"0x{status:04X}",
            new=is_new,
            num_bytes=len(encoded),
        )
        return status

    def _status(self, event: Event, encoded: bytes) -> tuple[int, bool]:
        try:
            film = film_of(encoded, syntax=str(event.context.transfer_syntax))
            if film.instance != str(typing.cast(C_STORE, event.request).AffectedSOPInstanceUID):
                return OTHER, False
            return STORED, self.folder.store(film)
        except OtherFilmError:
            return DUPLICATE, False
        except DicomError as error:
            logger.warning("A film was refused: %s", error)
            return UNREADABLE, False
        except NoRoomError as error:
            logger.warning("A film was refused: %s", error)
            return NO_ROOM, False
        except OSError as error:
            logger.warning("A film could not be kept: %s", error)
            return NO_ROOM, False

    def count_rejected(self, _event: Event) -> None:
        """Note refused callers: the first, and then as their number doubles, for they cost a stranger nothing."""
        with self._lock:
            self._num_rejected += 1
            count = self._num_rejected
        if count & (count - 1) == 0:
            self.audit.record("pacs_rejected", num_rejected=count)
