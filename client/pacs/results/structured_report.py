"""A reading as a Comprehensive 3D SR document by TID 1500, Measurement Report (PS3.16).

One measurement group (TID 1501) has what is said of the lesion; one region (TID 1410) on each film says where it is.
The groups share the lesion's tracking identifier. Nobody has verified the document, and it says so.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes

from client.data.preprocessing import Box
from client.pacs.results import codes as used
from client.pacs.results.film_header import finish
from client.pacs.results.identity import PLACEHOLDER, device_uid, identified, series_uid, tracking_uid
from client.pacs.results.lesion_reading import LesionReading
from client.pacs.results.wording import MAKER, PROGRAM, headline, remarks

_SERIES_NUMBER = 9001


def structured_report(reading: LesionReading, headers: Sequence[Dataset]) -> Dataset:
    """Return the document.

    Args:
        reading: of these films.
        headers: of its films, in their order, as ``read_header`` returns them.
    """
    study = str(headers[0].StudyInstanceUID)
    context = ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=device_uid(reading),
                name=PROGRAM,
                manufacturer_name=MAKER,
                model_name=f"{PROGRAM} {reading.software}",
                serial_number=reading.release_digest[:16],
            ),
        )
    )
    report = MeasurementReport(
        observation_context=context,
        procedure_reported=used.MAMMOGRAPHY,
        imaging_measurements=[_lesion(reading, headers, study), *_regions(reading, headers, study)],
        title=used.REPORT,
    )
    document = Comprehensive3DSR(
        evidence=list(headers),
        content=report,
        series_number=_SERIES_NUMBER,
        **document_values(reading, study, "SR"),
    )
    finish(document, headers[0], None)
    return identified(document, reading)


def document_values(reading: LesionReading, study: str, kind: str) -> dict[str, Any]:
    """Return what reports of every ``kind`` say alike, as highdicom's constructors name it."""
    return {
        "series_instance_uid": series_uid(reading, study, kind),
        "sop_instance_uid": PLACEHOLDER,
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": PROGRAM,
        "software_versions": reading.software,
        "device_serial_number": reading.release_digest[:16],
        "series_description": "Automated reading (research)",
        "is_complete": True,
        "is_final": False,
        "is_verified": False,
    }


def _lesion(reading: LesionReading, headers: Sequence[Dataset], study: str) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(reading, study),
        algorithm_id=_algorithm(reading),
        finding_type=used.FINDINGS[reading.lesion_type],
        finding_sites=[_site(reading)],
        measurements=_measurements(reading),
        qualitative_evaluations=_evaluations(reading),
        source_images=[
            SourceImageForMeasurementGroup(
                referenced_sop_class_uid=header.SOPClassUID, referenced_sop_instance_uid=header.SOPInstanceUID
            )
            for header in headers
        ],
    )
    # TID 1501 is extensible: comments follow its own rows.
    group[0].ContentSequence.extend(
        TextContentItem(name=used.COMMENT, value=line, relationship_type=RelationshipTypeValues.CONTAINS)
        for line in (headline(reading), *remarks(reading))
    )
    return group


def _regions(
    reading: LesionReading, headers: Sequence[Dataset], study: str
) -> list[PlanarROIMeasurementsAndQualitativeEvaluations]:
    return [
        PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(reading, study),
            referenced_region=ImageRegion(
                graphic_type=GraphicTypeValues.POLYLINE,
                graphic_data=outline(film.box),
                source_image=SourceImageForRegion(
                    referenced_sop_class_uid=header.SOPClassUID, referenced_sop_instance_uid=header.SOPInstanceUID
                ),
            ),
            finding_type=used.FINDINGS[reading.lesion_type],
            finding_sites=[_site(reading)],
        )
        for film, header in zip(reading.films, headers, strict=True)
        if film.box is not None
    ]


def outline(box: Box) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the closed outline ``(5, 2)``: columns and rows, 0 at the outer corner of the first pixel.

    PS3.3 C.18.6.1.2 counts so in reports, and C.10.5.1.2 in presentation states.
    """
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], dtype=np.float64)


def _measurements(reading: LesionReading) -> list[Measurement] | None:
    score = reading.score
    if score is None:
        return None
    values = (
        (used.PROBABILITY, score.probability),
        (used.LOWER_BOUND, score.low),
        (used.UPPER_BOUND, score.high),
        (used.THRESHOLD, score.threshold),
    )
    # A percentage with two places: more would promise what the interval denies.
    return [Measurement(name=name, value=round(100 * value, 2), unit=used.PERCENT) for name, value in values]


def _evaluations(reading: LesionReading) -> list[QualitativeEvaluation]:
    evaluations = [QualitativeEvaluation(name=used.OUTCOME, value=used.OUTCOMES[reading.outcome])]
    if reading.score is not None:
        call = used.ABOVE if reading.score.is_above else used.BELOW
        evaluations.append(QualitativeEvaluation(name=used.CALL, value=call))
    return evaluations


def _tracking(reading: LesionReading, study: str) -> TrackingIdentifier:
    return TrackingIdentifier(uid=tracking_uid(reading, study), identifier=reading.lesion)


def _site(reading: LesionReading) -> FindingSite:
    return FindingSite(anatomic_location=used.BREAST, laterality=used.SIDES[reading.laterality])


def _algorithm(reading: LesionReading) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=PROGRAM, version=reading.software, parameters=[f"release {reading.release_digest}"]
    )
