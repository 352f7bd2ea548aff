"""The folder in which films arrive, and the door that every one of them passes, whoever brings it.

A file's name is made of digests of its identifiers, never of what its sender wrote. A film is there whole or not at
all, once, and readable by the owner only.
"""

import fcntl
import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom import uid as dicom_uid
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_file_meta_info

from client.data.dicom.decoding import READABLE_SYNTAXES
from client.data.image_files import MAX_FILE_BYTES
from client.pacs.elements import require_bounded
from shared_model.errors import DicomError, FederatedMammographyError
from shared_model.system.files import write_atomically

FILM_CLASSES = (
    dicom_uid.DigitalMammographyXRayImageStorageForPresentation,
    dicom_uid.DigitalMammographyXRayImageStorageForProcessing,
    dicom_uid.DigitalXRayImageStorageForPresentation,
    dicom_uid.ComputedRadiographyImageStorage,
    dicom_uid.SecondaryCaptureImageStorage,
)
"""SOP classes that are taken in. Films for processing are: the reader says why it does not read them."""
FILM_SYNTAXES = tuple(syntax for syntax in READABLE_SYNTAXES if syntax.is_little_endian)
"""Transfer syntaxes that are taken in: those that the reader decodes, without big-endian ones, which are retired."""

_LOCK = ".lock"
_UID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_TEXTS = ("PatientID", "AccessionNumber", "StudyID", "Modality")
_DAMAGE = (ArithmeticError, AttributeError, BytesLengthException, EOFError, LookupError, NotImplementedError, OSError)
_OTHER_DAMAGE = (RecursionError, TypeError, UserWarning, ValueError, MemoryError)


class NoRoomError(FederatedMammographyError):
    """The folder has as many films, or bytes, as the hospital allows."""


class OtherFilmError(DicomError):
    """Another film with the same identifier is there already."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """One film as it arrived, checked at the door."""

    study: str
    """Study Instance UID."""
    instance: str
    """SOP Instance UID."""
    patient: str
    """Patient ID; empty where the file has none."""
    content: bytes
    """The whole file."""


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """The folder and its bounds."""

    folder: Path
    max_films: int
    max_bytes: int

    def store(self, film: Film) -> bool:
        """Keep a film; return whether it is new.

        Raises:
            NoRoomError: the folder is full.
            OtherFilmError: a film of the same identifier and other content is there; the first stays.
            OSError: it cannot be written.
        """
        path = self.path_of(film.study, film.instance)
        with self._locked():
            if path.exists():
                if path.read_bytes() != film.content:
                    raise OtherFilmError(f"Expected the film that is kept as {path.name}, got another of its name.")
                return False
            sizes = [entry.stat().st_size for entry in self.folder.glob("*/*.dcm")]
            if len(sizes) >= self.max_films or sum(sizes) + len(film.content) > self.max_bytes:
                raise NoRoomError(
                    f"Expected at most max_films={self.max_films} and max_incoming_bytes={self.max_bytes} in "
                    f"{self.folder}; take away what was read."
                )
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, film.content)
        return True

    def path_of(self, study: str, instance: str) -> Path:
        """Return where the film of these identifiers lies, or would."""
        return self.folder / _digest("study", study) / f"{_digest('instance', instance)}.dcm"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Waits: another receiver, or a fetch beside it, holds it for one file's time.
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def film_of_file(content: bytes) -> Film:
    """Check a file of PS3.10, header and data set, and return it as it will be kept.

    Raises:
        DicomError: it is no film that is taken in.
    """
    with _one_line():
        meta, start = _read_meta(content)
        return film_of(memoryview(content)[start:], syntax=str(meta.TransferSyntaxUID))


def film_of(encoded: bytes | memoryview, *, syntax: str) -> Film:
    """Check an encoded data set and return the film with a header that is written here.

    Args:
        encoded: the data set.
        syntax: its transfer syntax's UID.

    Raises:
        DicomError: it is no film that is taken in.
    """
    _expect(len(encoded) < MAX_FILE_BYTES, f"a film of less than {MAX_FILE_BYTES} bytes")
    _expect(syntax in FILM_SYNTAXES, "a transfer syntax that the reader decodes")
    require_bounded(encoded, is_implicit=dicom_uid.UID(syntax).is_implicit_VR)
    with _one_line():
        header = _header(encoded, syntax)
        found = {name: _identifier(header, name) for name in ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID")}
        _identifier(header, "SeriesInstanceUID")
        _expect(found["SOPClassUID"] in FILM_CLASSES, "the SOP class of a mammogram")
        texts = {name: str(header.get(name) or "") for name in _TEXTS}
        names = (*texts.values(), str(header.get("PatientName") or "").replace("\x1b", ""))
        _expect(all(text.isprintable() and len(text) <= 324 for text in names), "no control characters in its names")
        _expect(texts["Modality"] in ("", "MG"), "Modality MG")
        return Film(
            study=found["StudyInstanceUID"],
            instance=found["SOPInstanceUID"],
            patient=texts["PatientID"],
            content=_header_bytes(found["SOPClassUID"], found["SOPInstanceUID"], syntax) + bytes(encoded),
        )


def is_uid(text: object) -> bool:
    """Return whether this is a UID (PS3.5 9.1): numbers and dots, at most 64 of them."""
    return isinstance(text, str) and len(text) <= 64 and _UID.fullmatch(text) is not None


def _digest(kind: str, uid: str) -> str:
    return hashlib.sha256(f"{kind}:{uid}".encode()).hexdigest()[:40]


def _identifier(header: Dataset, keyword: str) -> str:
    value = str(header.get(keyword) or "")
    _expect(is_uid(value), f"{keyword} to be a UID")
    return value


def _header(encoded: bytes | memoryview, syntax: str) -> Dataset:
    meta = _header_bytes(dicom_uid.SecondaryCaptureImageStorage, "1.2", syntax)
    return dcmread(io.BytesIO(meta + bytes(encoded)), stop_before_pixels=True)


def _header_bytes(sop_class: str, instance: str, syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dicom_uid.UID(sop_class), dicom_uid.UID(instance)
    meta.TransferSyntaxUID = dicom_uid.UID(syntax)
    written = io.BytesIO()
    written.write(bytes(128) + b"DICM")
    write_file_meta_info(DicomIO(written), meta)
    return written.getvalue()


def _read_meta(content: bytes) -> tuple[Dataset, int]:
    """Return the header's elements, and where the data set begins."""
    _expect(content[128:132] == b"DICM", "a DICOM file")
    # PS3.10 7.1: the group's length comes first, explicit VR.
    _expect(content[132:140] == b"\x02\x00\x00\x00UL\x04\x00", "a DICOM file whose header begins with its length")
    length = int.from_bytes(content[140:144], "little")
    _expect(length <= 1 << 14, "a header of at most 16 KiB")
    require_bounded(content[144 : 144 + length], is_implicit=False)
    meta = dcmread(io.BytesIO(content[: 144 + length]), stop_before_pixels=True).file_meta
    return meta, 144 + length


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, *_OTHER_DAMAGE) as error:
        raise DicomError(f"Expected a readable DICOM data set, got {type(error).__name__}.") from error


def _expect(is_met: bool, expectation: str) -> None:
    if not is_met:
        raise DicomError(f"Expected {expectation}.")
