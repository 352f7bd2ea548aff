"""Identifiers made of content: what says the same is the same object, so that a PACS stores it once.

Times are those of the reading, not of the writing. "PS3.x" is the DICOM standard, part x.
"""

import hashlib
import io
import uuid

from pydicom import Dataset, dcmwrite
from pydicom.uid import UID

from client.pacs.results.lesion_reading import LesionReading

PLACEHOLDER = "2.25.1"
"""Stands for an instance's identifier until its content is complete."""
_NAMESPACE = uuid.UUID("6f4f6f4c-8f0c-5d3e-9a51-7d5b7c0e2f11")
_DATES = ("InstanceCreationDate", "ContentDate", "PresentationCreationDate", "SeriesDate", "DateOfSecondaryCapture")
_TIMES = ("InstanceCreationTime", "ContentTime", "PresentationCreationTime", "SeriesTime", "TimeOfSecondaryCapture")


def uuid_of(*parts: str) -> uuid.UUID:
    """Return a UUID of these texts, in this order."""
    digest = hashlib.sha256("\n".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()
    return uuid.uuid5(_NAMESPACE, digest)


def uid_of(*parts: str) -> str:
    """Return a UID of these texts (PS3.5 B.2: a UUID as a number below 2.25)."""
    return f"2.25.{uuid_of(*parts).int}"


def device_uid(reading: LesionReading) -> str:
    """Return the identifier of the reader: a release in a version of this program."""
    return uid_of("device", reading.release_digest, reading.software)


def series_uid(reading: LesionReading, study: str, kind: str) -> str:
    """Return the series of one kind of output of one release in a study."""
    return uid_of("series", study, kind, reading.release_digest, reading.software)


def tracking_uid(reading: LesionReading, study: str) -> str:
    """Return the identifier of the lesion: its side, its name and its boxes in the study."""
    boxes = (f"{film.view} {film.box}" for film in reading.films)
    return uid_of("lesion", study, reading.laterality, reading.lesion_type, reading.lesion, *boxes)


def identified(dataset: Dataset, reading: LesionReading) -> Dataset:
    """Give a complete object the reading's times and the identifier of its content, in place; return it."""
    day, time = reading.read_at.strftime("%Y%m%d"), reading.read_at.strftime("%H%M%S")
    for names, value in ((_DATES, day), (_TIMES, time)):
        for name in names:
            if name in dataset:
                setattr(dataset, name, value)
    for item in dataset.get("ContributingEquipmentSequence") or ():
        item.pop("ContributionDateTime", None)
    dataset.TimezoneOffsetFromUTC = reading.read_at.strftime("%z")[:5]
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(PLACEHOLDER)
    instance = uid_of("instance", hashlib.sha256(encoded(dataset)).hexdigest())
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(instance)
    return dataset


def encoded(dataset: Dataset) -> bytes:
    """Return the file of an object (PS3.10)."""
    written = io.BytesIO()
    dcmwrite(written, dataset, enforce_file_format=True)
    return written.getvalue()
