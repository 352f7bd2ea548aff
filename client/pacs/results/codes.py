"""Every code that outputs use, with the place where it stands; ``docs/pacs.md`` shows them as a table.

Codes of DICOM (DCM), SNOMED CT (SCT) and UCUM are taken by name from pydicom's copy of PS3.16, so that a code that the
standard does not have cannot be written. Where the standard has none, the scheme is our own, 99FEDMAMMO (PS3.16 8.2:
private schemes begin with 99).
"""

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from client.pacs.results.lesion_reading import Outcome
from shared_model.vocabulary import Laterality, LesionType, View

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

# Of the CAD report, TID 4000 and what it includes.
CAD_REPORT = codes.DCM.MammographyCADReport
LANGUAGE = codes.DCM.LanguageOfContentItemAndDescendants
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
"""CID 5000, as highdicom writes it in the other report; the dictionary has no languages."""
IMAGE_LIBRARY = codes.DCM.ImageLibrary
IMAGE_LATERALITY = codes.DCM.ImageLaterality
IMAGE_VIEW = codes.DCM.ImageView
VIEWS = {View.CC: codes.SCT.CranioCaudal, View.MLO: codes.SCT.MedioLateralObliqueProjection}
ORIENTATION = (codes.DCM.PatientOrientationRow, codes.DCM.PatientOrientationColumn)
STUDY_DATE = codes.DCM.StudyDate
STUDY_TIME = codes.DCM.StudyTime
HORIZONTAL_SPACING = codes.DCM.HorizontalPixelSpacing
VERTICAL_SPACING = codes.DCM.VerticalPixelSpacing
MILLIMETER = codes.UCUM.Millimeter
FINDINGS_SUMMARY = codes.DCM.CADProcessingAndFindingsSummary
WITH_FINDINGS = codes.DCM.AllAlgorithmsSucceededWithFindings
WITHOUT_FINDINGS = codes.DCM.NoAlgorithmsSucceededWithoutFindings
DETECTIONS = codes.DCM.SummaryOfDetections
ANALYSES = codes.DCM.SummaryOfAnalyses
SUCCEEDED = codes.DCM.Succeeded
FAILED = codes.DCM.Failed
NOT_ATTEMPTED = codes.DCM.NotAttempted
SUCCESSFUL_ANALYSES = codes.DCM.SuccessfulAnalyses
FAILED_ANALYSES = codes.DCM.FailedAnalyses
ANALYSIS = codes.DCM.AnalysisPerformed
ANALYSIS_OF_IMPRESSION = codes.DCM.IndividualImpressionRecommendationAnalysis
IMPRESSION = codes.DCM.IndividualImpressionRecommendation
IMPRESSION_DESCRIPTION = codes.DCM.ImpressionDescription
RENDERING_INTENT = codes.DCM.RenderingIntent
PRESENTATION_OPTIONAL = codes.DCM.PresentationOptionalRenderingDeviceMayPresent
FEATURE = codes.DCM.CompositeFeature
FEATURE_TYPE = codes.DCM.CompositeType
RELATED_SPATIALLY = codes.DCM.TargetContentItemsAreRelatedSpatially
SCOPE = codes.DCM.ScopeOfFeature
ON_SEVERAL_FILMS = codes.DCM.FeatureDetectedOnMultipleImages
FINDING = codes.DCM.SingleImageFinding
SELECTED_REGION = codes.DCM.SelectedRegion
REGION_DESCRIPTION = codes.DCM.SelectedRegionDescription
CENTER = codes.DCM.Center
OUTLINE = codes.DCM.Outline
TRACKING = codes.DCM.TrackingIdentifier
TRACKING_UID = codes.DCM.TrackingUniqueIdentifier
ALGORITHM_NAME = codes.DCM.AlgorithmName
ALGORITHM_VERSION = codes.DCM.AlgorithmVersion
ALGORITHM_PARAMETERS = codes.DCM.AlgorithmParameters
