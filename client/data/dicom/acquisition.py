"""What a DICOM file says of its picture: a mammogram for presentation, of which breast and view, drawn which way."""

import re
from collections.abc import Mapping

from pydicom import Dataset, uid
from pydicom.multival import MultiValue

from client.data.dicom.attributes import expect
from client.data.preprocessing import OtherView
from shared_model.vocabulary import Laterality, View

_MODALITY = "MG"
_MAMMOGRAM_CLASSES = frozenset(
    {
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.DigitalMammographyXRayImageStorageForProcessing,
        uid.DigitalXRayImageStorageForPresentation,
        uid.ComputedRadiographyImageStorage,
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    }
)
"""SOP classes as which single mammograms are found; the digitised films of CBIS-DDSM are Secondary Captures."""
_FOR_PROCESSING = "FOR PROCESSING"
_VIEW_CODES: Mapping[str, View | OtherView] = {
    "R-10242": View.CC,
    "399162004": View.CC,
    "R-10226": View.MLO,
    "399368009": View.MLO,
    "R-10224": OtherView.ML,
    "399260004": OtherView.ML,
    "R-10228": OtherView.LM,
    "399352003": OtherView.LM,
    "R-10230": OtherView.LMO,
    "399099002": OtherView.LMO,
}
"""PS3.16 CID 4014, in SNOMED-RT and SNOMED CT."""
_MAX_SPACING_MM = 10.0
_VIEWS: Mapping[str, View | OtherView] = {str(view): view for kind in (View, OtherView) for view in kind}
_CHEST_WALL_LEFT = {"A": True, "P": False}
"""First letter of the direction of rows -> whether they begin at the chest wall."""


def require_mammogram(dataset: Dataset) -> None:
    """Refuse what is not Modality MG, and what was not processed for a reader.

    A file without Modality passes, for secondary captures and de-identified files may lack it, unless its SOP class is
    one of the standard's that no mammogram has.

    Raises:
        DicomError: with the attribute that says so.
    """
    modality = dataset.get("Modality") or ""
    expect(modality in ("", _MODALITY), dataset, "Modality", f"to be {_MODALITY}, a mammogram")
    sop_class = uid.UID(str(dataset.get("SOPClassUID") or ""))
    is_other = sop_class.type != "" and sop_class not in _MAMMOGRAM_CLASSES
    expect(not is_other, dataset, "SOPClassUID", f"to be that of a mammogram, not {sop_class.name}")
    remedy = "to be FOR PRESENTATION: these are raw values of the detector; export the processed image"
    intent = re.sub(r"[\W_]+", " ", str(dataset.get("PresentationIntentType") or "").upper()).strip()
    expect(intent != _FOR_PROCESSING, dataset, "PresentationIntentType", remedy)
    is_raw = sop_class == uid.DigitalMammographyXRayImageStorageForProcessing
    expect(not is_raw, dataset, "SOPClassUID", remedy)


def laterality(dataset: Dataset) -> Laterality | None:
    """Return the one breast, or ``None`` where the file says nothing, both (B) or unpaired (U)."""
    sides = {"L": Laterality.LEFT, "R": Laterality.RIGHT}
    named = set()
    for keyword in ("ImageLaterality", "Laterality"):
        value = dataset.get(keyword) or ""
        expect(value in ("", "B", "U", *sides), dataset, keyword, "to be L, R, B or U")
        if value in sides:
            named.add(sides[value])
    expect(len(named) <= 1, dataset, "ImageLaterality", f"to agree with Laterality={dataset.get('Laterality')}")
    return named.pop() if named else None


def view(dataset: Dataset) -> View | None:
    """Return the projection, or ``None`` where it is another or not said; CBIS-DDSM has it in PatientOrientation.

    Raises:
        DicomError: two attributes name different ones.
    """
    named = _projection(dataset)
    return named if isinstance(named, View) else None


def other_view(dataset: Dataset) -> OtherView | None:
    """Return the projection where it is another, as ``view``."""
    named = _projection(dataset)
    return named if isinstance(named, OtherView) else None


def _projection(dataset: Dataset) -> View | OtherView | None:
    names = (str(dataset.get(keyword) or "").strip().upper() for keyword in ("ViewPosition", "PatientOrientation"))
    named: set[View | OtherView] = {_VIEWS[name] for name in names if name in _VIEWS}
    codes = {item.get("CodeValue") for item in dataset.get("ViewCodeSequence") or ()}
    named |= {_VIEW_CODES[code] for code in codes if code in _VIEW_CODES}
    keyword = "ViewPosition" if "ViewPosition" in dataset else "ViewCodeSequence"
    expect(len(named) <= 1, dataset, keyword, "to agree with PatientOrientation and ViewCodeSequence")
    return named.pop() if named else None


def chest_wall_left(dataset: Dataset) -> bool | None:
    """Return whether the chest wall is at the picture's left edge, or ``None`` where the file does not say.

    PatientOrientation begins with where its rows run to (PS3.3 C.7.6.1.1.1): A, anterior, away from the chest wall, or
    P, posterior, towards it. A left breast has A and a right one P, unless somebody has mirrored the picture.

    Raises:
        DicomError: the columns run there, so that the picture lies on its side.
    """
    value = dataset.get("PatientOrientation")
    is_pair = isinstance(value, MultiValue) and len(value) == 2
    rows, columns = (str(part).strip().upper()[:1] for part in value) if is_pair else ("", "")
    is_turned = columns in _CHEST_WALL_LEFT and rows not in _CHEST_WALL_LEFT
    expect(not is_turned, dataset, "PatientOrientation", "to begin with A or P: the picture lies on its side; turn it")
    return _CHEST_WALL_LEFT.get(rows)


def pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Return the distance of rows and of columns in mm, or ``None`` where the file does not say it in earnest.

    A projection's ImagerPixelSpacing is at the detector (PS3.3 C.8.7.3.1.1); others may write PixelSpacing alone.
    Nothing that is read depends on it, so a value that is none counts as not said.
    """
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        try:
            rows, columns = (float(value) for value in dataset.get(keyword) or ())
        except (TypeError, ValueError):
            continue
        if 0 < rows < _MAX_SPACING_MM and 0 < columns < _MAX_SPACING_MM:
            return rows, columns
    return None
