"""A reading as a Mammography CAD SR document by TID 4000 (PS3.16), for workstations that take CAD in no other form.

The template is made for programs that detect. This one detects nothing, and the document says so: detections were not
attempted; a finding is a selected region, which somebody has marked; what was performed is the analysis of it. The
template is not extensible, so that interval, threshold, call and cautions stand in the description of the impression,
in words. Where the lesion is marked on one film only, so does the probability: TID 4006 allows none of a selected
region, TID 4005 does, of a feature on two films.
"""

from collections.abc import Sequence

from highdicom.sr import ComprehensiveSR
from pydicom import Dataset
from pydicom.uid import UID, MammographyCADSRStorage

from client.pacs.results import codes as used
from client.pacs.results.cad.content_items import code, container, image, number, region, text, uid_reference
from client.pacs.results.cad.image_library import image_library
from client.pacs.results.film_header import finish
from client.pacs.results.identity import identified, tracking_uid
from client.pacs.results.lesion_reading import LesionReading, MarkedFilm, Outcome
from client.pacs.results.structured_report import document_values, outline
from client.pacs.results.wording import PROGRAM, headline, remarks
from shared_model.errors import DicomError

_SERIES_NUMBER = 9004
_LIBRARY = (1, 2)
"""Where the image library stands among the content items, counted from 1; its images follow (PS3.3 C.17.3.2.5)."""
_MARKED = "marked by a person; nothing was detected"
_STATUS = {Outcome.READ: used.SUCCEEDED, Outcome.ABSTAINED: used.FAILED, Outcome.REFUSED: used.NOT_ATTEMPTED}


def cad_report(reading: LesionReading, headers: Sequence[Dataset]) -> Dataset:
    """Return the document.

    Args:
        reading: of these films.
        headers: of its films, in their order, as ``read_header`` returns them.

    Raises:
        DicomError: the reading has a probability of a lesion that is marked on no film.
    """
    study = str(headers[0].StudyInstanceUID)
    values = document_values(reading, study, "CAD")
    language = code("HAS CONCEPT MOD", used.LANGUAGE, used.ENGLISH)
    root = container(None, used.CAD_REPORT, language, template="4000")
    # highdicom has no class for this one, nor items that refer to others; the modules are any report's (PS3.3 A.35.5).
    document = ComprehensiveSR(evidence=list(headers), content=root, series_number=_SERIES_NUMBER, **values)
    document.SOPClassUID = document.file_meta.MediaStorageSOPClassUID = UID(MammographyCADSRStorage)
    document.ContentSequence = [
        language,
        image_library(reading, headers),
        _impression(reading, study),
        code("CONTAINS", used.DETECTIONS, used.NOT_ATTEMPTED),
        _analyses(reading),
    ]
    finish(document, headers[0], None)
    return identified(document, reading)


def _impression(reading: LesionReading, study: str) -> Dataset:
    """TID 4001: of a lesion (TID 4003), or why there is none."""
    if reading.score is None:
        return code("CONTAINS", used.FINDINGS_SUMMARY, used.WITHOUT_FINDINGS, *_in_words(reading, "HAS PROPERTIES"))
    marked = [(film, place) for place, film in enumerate(reading.films, 1) if film.box is not None]
    if not marked:
        raise DicomError(
            "Expected a lesion that is marked on a film: a CAD report has no other place for a probability; write the "
            "comprehensive report."
        )
    relationship = "CONTAINS" if len(marked) == 1 else "INFERRED FROM"
    regions = [_region(reading, film, place, study, relationship) for film, place in marked]
    return code(
        "CONTAINS",
        used.FINDINGS_SUMMARY,
        used.WITH_FINDINGS,
        container(
            "INFERRED FROM",
            used.IMPRESSION,
            _intent(),
            *_in_words(reading, "CONTAINS"),
            *(regions if len(regions) == 1 else [_feature(reading, reading.score.probability, regions, study)]),
        ),
    )


def _in_words(reading: LesionReading, relationship: str) -> list[Dataset]:
    """TID 4002, which its parent includes by ``relationship``."""
    said = "\r\n".join((headline(reading), *remarks(reading)))
    return [text(relationship, used.IMPRESSION_DESCRIPTION, said), *_algorithm(reading, PROGRAM, relationship)]


def _feature(reading: LesionReading, probability: float, regions: Sequence[Dataset], study: str) -> Dataset:
    """TID 4004 and 4005: what was marked on several films, as one."""
    return code(
        "CONTAINS",
        used.FEATURE,
        used.SELECTED_REGION,
        _intent(),
        *_tracking(reading, study),
        code("HAS PROPERTIES", used.FEATURE_TYPE, used.RELATED_SPATIALLY),
        code("HAS PROPERTIES", used.SCOPE, used.ON_SEVERAL_FILMS),
        *_algorithm(reading, PROGRAM),
        # A percentage with two places, as in the other report.
        number("HAS PROPERTIES", used.PROBABILITY, round(100 * probability, 2), used.PERCENT),
        _description(reading),
        *regions,
    )


def _region(reading: LesionReading, film: MarkedFilm, place: int, study: str, relationship: str) -> Dataset:
    """TID 4006, with TID 4021 and 4013: what was marked on one film."""
    if film.box is None:
        raise ValueError("Expected a film with a box.")
    points = outline(film.box)
    shown = image("SELECTED FROM", (*_LIBRARY, place))
    return code(
        relationship,
        used.FINDING,
        used.SELECTED_REGION,
        _intent(),
        *_tracking(reading, study),
        *_algorithm(reading, f"{PROGRAM}: {_MARKED}", has_release=False),
        region("HAS PROPERTIES", used.CENTER, "POINT", points[:4].mean(axis=0)[None], shown),
        region("HAS PROPERTIES", used.OUTLINE, "POLYLINE", points, shown),
        _description(reading),
    )


def _analyses(reading: LesionReading) -> Dataset:
    """TID 4016 and 4018: what was performed on which films."""
    status = _STATUS[reading.outcome]
    if status is used.NOT_ATTEMPTED:
        return code("CONTAINS", used.ANALYSES, status)
    performed = code(
        "CONTAINS",
        used.ANALYSIS,
        used.ANALYSIS_OF_IMPRESSION,
        *_algorithm(reading, PROGRAM),
        *(image("HAS PROPERTIES", (*_LIBRARY, place)) for place in range(1, len(reading.films) + 1)),
    )
    name = used.SUCCESSFUL_ANALYSES if status is used.SUCCEEDED else used.FAILED_ANALYSES
    return code("CONTAINS", used.ANALYSES, status, container("INFERRED FROM", name, performed))


def _intent() -> Dataset:
    # Nobody has verified it: a workstation may show it, and need not.
    return code("HAS CONCEPT MOD", used.RENDERING_INTENT, used.PRESENTATION_OPTIONAL)


def _description(reading: LesionReading) -> Dataset:
    return text("HAS PROPERTIES", used.REGION_DESCRIPTION, f"{reading.lesion_type}, {_MARKED}")


def _tracking(reading: LesionReading, study: str) -> list[Dataset]:
    """TID 4108."""
    return [
        text("HAS OBS CONTEXT", used.TRACKING, reading.lesion),
        uid_reference("HAS OBS CONTEXT", used.TRACKING_UID, tracking_uid(reading, study)),
    ]


def _algorithm(
    reading: LesionReading, name: str, relationship: str = "HAS PROPERTIES", *, has_release: bool = True
) -> list[Dataset]:
    """TID 4019."""
    items = [
        text(relationship, used.ALGORITHM_NAME, name),
        text(relationship, used.ALGORITHM_VERSION, reading.software),
    ]
    if has_release:
        items.append(text(relationship, used.ALGORITHM_PARAMETERS, f"release {reading.release_digest}"))
    return items
