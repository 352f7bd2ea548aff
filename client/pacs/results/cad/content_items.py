"""Content items of a structured report (PS3.3 C.17.3), as data sets: what highdicom makes of TID 1500 only.

The first argument is the relationship with the parent, None for the root; the last ones are the item's own children.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import DSfloat

from client.pacs.results.wording import ascii_text


def container(relationship: str | None, name: Code, *children: Dataset, template: str | None = None) -> Dataset:
    """Return a container; ``template`` is the number of the root's own template (PS3.3 C.18.8)."""
    item = _item("CONTAINER", relationship, name, children)
    item.ContinuityOfContent = "SEPARATE"
    if template is not None:
        own = Dataset()
        own.MappingResource, own.TemplateIdentifier = "DCMR", template
        item.ContentTemplateSequence = [own]
    return item


def code(relationship: str, name: Code, value: Code, *children: Dataset) -> Dataset:
    """Return a coded value."""
    item = _item("CODE", relationship, name, children)
    item.ConceptCodeSequence = [_coded(value)]
    return item


def text(relationship: str, name: Code, value: str) -> Dataset:
    """Return a text, of ASCII, with line ends as it has them."""
    item = _item("TEXT", relationship, name, ())
    item.TextValue = "\r\n".join(ascii_text(line) for line in value.splitlines())
    return item


def number(relationship: str, name: Code, value: float, unit: Code) -> Dataset:
    """Return a number."""
    item = _item("NUM", relationship, name, ())
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = DSfloat(value, auto_format=True), [_coded(unit)]
    item.MeasuredValueSequence = [measured]
    return item


def date(relationship: str, name: Code, value: str) -> Dataset:
    """Return a date, ``YYYYMMDD``."""
    item = _item("DATE", relationship, name, ())
    item.Date = value
    return item


def time(relationship: str, name: Code, value: str) -> Dataset:
    """Return a time of the day as DICOM writes it."""
    item = _item("TIME", relationship, name, ())
    item.Time = value
    return item


def uid_reference(relationship: str, name: Code, value: str) -> Dataset:
    """Return an identifier."""
    item = _item("UIDREF", relationship, name, ())
    item.UID = value
    return item


def region(relationship: str, name: Code, kind: str, points: NDArray[np.float64], film: Dataset) -> Dataset:
    """Return points ``(N, 2)``, columns and rows of ``film``, an item that is selected from."""
    item = _item("SCOORD", relationship, name, (film,))
    item.GraphicType, item.GraphicData = kind, [float(value) for value in points.ravel()]
    return item


def film(relationship: str, header: Dataset, *children: Dataset) -> Dataset:
    """Return an image of the library, which has no name."""
    item = _item("IMAGE", relationship, None, children)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    item.ReferencedSOPSequence = [reference]
    return item


def image(relationship: str, place: tuple[int, ...]) -> Dataset:
    """Return a reference to the item at ``place`` (PS3.3 C.17.3.2.5)."""
    item = Dataset()
    item.RelationshipType, item.ReferencedContentItemIdentifier = relationship, list(place)
    return item


def _item(kind: str, relationship: str | None, name: Code | None, children: tuple[Dataset, ...]) -> Dataset:
    item = Dataset()
    if relationship is not None:
        item.RelationshipType = relationship
    item.ValueType = kind
    if name is not None:
        item.ConceptNameCodeSequence = [_coded(name)]
    if children:
        item.ContentSequence = list(children)
    return item


def _coded(value: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value.value, value.scheme_designator
    # PS3.16 as a web page has invisible places to break long words at.
    item.CodeMeaning = value.meaning.replace("\u200b", "")
    return item
