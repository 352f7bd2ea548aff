"""Other spellings of the vocabulary that have one meaning: those of other data sets, programs and editions of BI-RADS.

Everything is compared in upper case with one underscore for space, underscores and hyphens. A word that could mean two
things in its column is not here.

Sources: ACR BI-RADS, 5th ed. (density A to D, INDISTINCT for ill-defined margins, GROUPED for clustered calcifications,
RIM for eggshell); DICOM PS3.5, 6.2 (AS, an age such as 045Y) and PS3.3 C.7.3.1 (laterality L, R).
"""

import re
from collections.abc import Mapping

from shared_model.vocabulary import Split

_TRUE, _FALSE = ("TRUE", "YES", "Y", "T"), ("FALSE", "NO", "N", "F")
_DENSITY = {"A": "1", "B": "2", "C": "3", "D": "4", "I": "1", "II": "2", "III": "3", "IV": "4"}
_CALCIFICATION = ("CALC", "CALCS", "CALCIFICATIONS", "MICROCALCIFICATION", "MICROCALCIFICATIONS")

WORDS: Mapping[str, Mapping[str, str]] = {
    "breast_density": _DENSITY,
    "laterality": {
        "L": "LEFT",
        "R": "RIGHT",
        "LT": "LEFT",
        "RT": "RIGHT",
        "LEFT_BREAST": "LEFT",
        "RIGHT_BREAST": "RIGHT",
    },
    "view": {
        "CRANIOCAUDAL": "CC",
        "CRANIO_CAUDAL": "CC",
        "MEDIOLATERAL_OBLIQUE": "MLO",
        "MEDIO_LATERAL_OBLIQUE": "MLO",
    },
    "abnormality_type": {"MASSES": "mass", **dict.fromkeys(_CALCIFICATION, "calcification")},
    "family_history": {**dict.fromkeys((*_TRUE, "1"), "yes"), **dict.fromkeys((*_FALSE, "0"), "no")},
    "mass_shape": {
        "FOCAL_ASYMMETRY": "FOCAL_ASYMMETRIC_DENSITY",
        "INTRAMAMMARY_LYMPH_NODE": "LYMPH_NODE",
    },
    "mass_margins": {"INDISTINCT": "ILL_DEFINED", "WELL_DEFINED": "CIRCUMSCRIBED"},
    "calc_type": {
        "FINE_PLEOMORPHIC": "PLEOMORPHIC",
        "FINE_LINEAR": "FINE_LINEAR_BRANCHING",
        "FINE_LINEAR_OR_FINE_LINEAR_BRANCHING": "FINE_LINEAR_BRANCHING",
        "LARGE_ROD_LIKE": "LARGE_RODLIKE",
        "RIM": "EGGSHELL",
        "LUCENT_CENTRE": "LUCENT_CENTER",
        "LUCENT_CENTRED": "LUCENT_CENTERED",
    },
    "calc_distribution": {"GROUPED": "CLUSTERED", "DIFFUSE": "DIFFUSELY_SCATTERED", "SCATTERED": "DIFFUSELY_SCATTERED"},
}
"""Column -> other spelling -> word of the vocabulary, or a part of a cell with several words."""

OUTCOMES: Mapping[str, int] = {**dict.fromkeys((*_TRUE, "M"), 1), **dict.fromkeys((*_FALSE, "B"), 0)}
"""Spellings of a bare label: booleans, and the first letters of the outcomes."""

SPLITS: Mapping[str, Split] = {
    "TRAINING": Split.TRAIN,
    "TRAIN_SET": Split.TRAIN,
    "TRAINING_SET": Split.TRAIN,
    "TESTING": Split.TEST,
    "TEST_SET": Split.TEST,
    # On the training side: which of its patients choose the threshold is for each site's secret to say.
    "VAL": Split.TRAIN,
    "VALID": Split.TRAIN,
    "VALIDATION": Split.TRAIN,
}
VALIDATION_SPLITS = frozenset({"VAL", "VALID", "VALIDATION"})

_PREFIXES = {
    "breast_density": re.compile(r"(?:(?:BREAST_)?DENSITY|ACR|BI_?RADS|TYPE|CATEGORY)_?"),
    "assessment": re.compile(r"(?:(?:ACR_)?BI_?RADS|CATEGORY)_?"),
}
_SUBCATEGORY = re.compile(r"4_?[ABC]")
_AGE = re.compile(r"(?:>=_?)?(\d{1,3})(?:_?\+|_?Y|_?YEARS?|_?YRS?)?")
"""Years: ``90+`` and ``>=90`` (an age that was made coarser), ``045Y`` (DICOM), ``45 years``."""


def respelt(column: str, text: str) -> str:
    """Return a folded cell, or a part of one, in the words of the vocabulary where its column has other spellings.

    >>> respelt("breast_density", "ACR_C"), respelt("assessment", "BI_RADS_4A"), respelt("age", "90+")
    ('3', '4', '90')
    """
    if column == "age":
        years = _AGE.fullmatch(text)
        return text if years is None else years[1]
    prefix = _PREFIXES.get(column)
    if prefix is not None and (found := prefix.match(text)):
        text = text[found.end() :]
    if column == "assessment" and _SUBCATEGORY.fullmatch(text):
        return "4"
    return WORDS.get(column, {}).get(text, text)
