"""Every code that outputs use, with the place where it stands; ``docs/pacs.md`` shows them as a table.

Codes of DICOM (DCM), SNOMED CT (SCT) and UCUM are taken by name from pydicom's copy of PS3.16, so that a code that the
standard does not have cannot be written. Where the standard has none, the scheme is our own, 99FEDMAMMO (PS3.16 8.2:
private schemes begin with 99).
"""

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from client.pacs.results.lesion_reading import Outcome
from shared_model.vocabulary import Laterality, LesionType

PRIVATE = "99FEDMAMMO"

MAMMOGRAPHY = codes.SCT.Mammography
BREAST = codes.SCT.Breast
REPORT = codes.DCM.ImagingMeasurementReport
PROBABILITY = codes.DCM.ProbabilityOfCancer
COMMENT = codes.DCM.Comment
PERCENT = codes.UCUM.Percent
SIDES = {Laterality.LEFT: codes.SCT.Left, Laterality.RIGHT: codes.SCT.Right}
BREASTS = {Laterality.LEFT: codes.SCT.LeftBreast, Laterality.RIGHT: codes.SCT.RightBreast}
FINDINGS = {
    LesionType.MASS: codes.SCT.MammographicBreastMass,
    LesionType.CALCIFICATION: codes.SCT.RadiographicCalcificationFinding,
}

LOWER_BOUND = Code("PROBABILITY-LOW", PRIVATE, "Lower bound of 95 % interval")
UPPER_BOUND = Code("PROBABILITY-HIGH", PRIVATE, "Upper bound of 95 % interval")
THRESHOLD = Code("THRESHOLD", PRIVATE, "Operating threshold")
OUTCOME = Code("OUTCOME", PRIVATE, "Outcome of automated reading")
CALL = Code("CALL", PRIVATE, "Call at operating threshold")
OUTCOMES = {
    Outcome.READ: Code("READ", PRIVATE, "Read"),
    Outcome.ABSTAINED: Code("ABSTAINED", PRIVATE, "Abstained"),
    Outcome.REFUSED: Code("REFUSED", PRIVATE, "Refused"),
}
ABOVE = Code("ABOVE", PRIVATE, "At or above operating threshold")
BELOW = Code("BELOW", PRIVATE, "Below operating threshold")
