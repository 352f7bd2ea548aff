"""What is known of a synthetic patient and of her lesions."""

from dataclasses import dataclass

from shared_model.vocabulary import Laterality, LesionType, Pathology, Split, View


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion; its views share one row of descriptors."""

    lesion_type: LesionType
    split: Split
    laterality: Laterality
    number: int
    """The table's ``abnormality id``, from 1."""
    views: tuple[View, ...]
    pathology: Pathology
    recorded_density: int
    """As the table gives it: 0 in a few rows."""
    shape_or_type: str
    """Mass shape or calcification type, as in the table: values joined by ``-``, ``NA`` or empty."""
    margins_or_distribution: str
    """Mass margins or calcification distribution, likewise."""
    assessment: int
    subtlety: int
    aggressiveness: float
    """What the film shows of the outcome beyond the descriptors; no column holds it."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One woman, seen at one hospital."""

    patient_id: str
    institution: str
    series_letter: str
    density: int
    """BI-RADS density of the tissue on her films, 1 to 4."""
    lesions: tuple[Lesion, ...]
