"""A film's box and result as a Grayscale Softcopy Presentation State (PS3.3 A.33.1), which the viewer draws.

The map is not in it: overlays of a presentation state have one bit, and an edge drawn by a threshold of ours would look
like the outline of a lesion. It is in the picture, ``client.pacs.results.picture``.
"""

from highdicom import PresentationLUTTransformation
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom import Dataset

from client.data.preprocessing import Box
from client.pacs.results.film_header import finish
from client.pacs.results.identity import PLACEHOLDER, identified, series_uid, tracking_uid
from client.pacs.results.lesion_reading import LesionReading, MarkedFilm
from client.pacs.results.structured_report import outline
from client.pacs.results.wording import MAKER, PROGRAM, WARNING, headline

_SERIES_NUMBER = 9002
_LABEL = "AUTOMATED"
_TEXT_HEIGHT = 0.04
"""Of a line of text, as a share of the displayed film."""


def presentation_state(reading: LesionReading, film: MarkedFilm, header: Dataset) -> Dataset:
    """Return the presentation state of one film.

    Args:
        reading: the film is one of it.
        film: with or without a box.
        header: of the film, as ``read_header`` returns it.
    """
    study = str(header.StudyInstanceUID)
    layer = GraphicLayer(_LABEL, order=1, description="Automated reading")
    boxes = [] if film.box is None else [_box(reading, film.box, study)]
    texts = [_line(headline(reading), 0), _line(WARNING, 1)]
    annotation = GraphicAnnotation(
        referenced_images=[header], graphic_layer=layer, graphic_objects=boxes or None, text_objects=texts
    )
    # PS3.3 C.11.6.1.2: without the inversion a viewer would show a MONOCHROME1 film as its negative.
    shape = "INVERSE" if header.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[header],
        series_instance_uid=series_uid(reading, study, "PR"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=PLACEHOLDER,
        instance_number=1 + reading.films.index(film),
        manufacturer=MAKER,
        manufacturer_model_name=PROGRAM,
        software_versions=reading.software,
        device_serial_number=reading.release_digest[:16],
        content_label=_LABEL,
        content_description="Automated reading (research)",
        graphic_layers=[layer],
        graphic_annotations=[annotation],
        presentation_lut_transformation=PresentationLUTTransformation(presentation_lut_shape=shape),
        series_description="Automated reading (research)",
    )
    finish(state, header, reading.laterality)
    return identified(state, reading)


def _box(reading: LesionReading, box: Box, study: str) -> GraphicObject:
    return GraphicObject(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=outline(box),
        units=AnnotationUnitsValues.PIXEL,
        tracking_id=reading.lesion,
        tracking_uid=tracking_uid(reading, study),
    )


def _line(text: str, number: int) -> TextObject:
    top = 0.01 + number * _TEXT_HEIGHT
    return TextObject(
        text_value=text, bounding_box=(0.01, top, 0.99, top + _TEXT_HEIGHT), units=AnnotationUnitsValues.DISPLAY
    )
