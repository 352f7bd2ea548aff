"""What an evaluation found, as one checked document: the file ``evaluation.json``."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from server.results.document import Time
from server.results.estimate import Estimate, Size
from server.results.evidence import Evidence, GroupResult
from shared_model.config.bounds import Count, Fraction, Interval, Positive, Text
from shared_model.system.checked import build, checked, require
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically

EVALUATION_FILE = "evaluation.json"
SCHEMA_VERSION = 1
NUM_SCORE_BINS = 20
"""Equal bins of the score; bin ``b`` holds the scores in ``[b / 20, (b + 1) / 20)``, the last also 1."""


@checked(error=ValueError)
class EvaluatedRun:
    """The run whose final network scored the lesions."""

    preset: str
    seed: int
    model_sha256: Text
    source_fingerprint: Text
    """Of the code that trained it."""
    threshold: Fraction | None
    """Frozen in training; null where the run has chosen none."""


@checked(error=ValueError)
class EvaluatedLesions:
    """The rows of the table, and what became of them."""

    name: Text
    num_rows: Size
    num_lesions: Count
    """Views of lesions that were scored."""
    num_with_image: Size
    num_patients: Count
    num_malignant: Size | None
    """Null for a table without outcomes."""
    rejected: Mapping[str, int]
    """Why the other rows could not be used, with their number."""
    notes: tuple[Text, ...]
    """What a reader of the figures should know."""

    def __post_init__(self) -> None:
        for name in ("num_with_image", "num_malignant", "num_patients"):
            count = getattr(self, name)
            is_part = count is None or count <= self.num_lesions
            require(is_part, f"<= num_lesions={self.num_lesions}", **{name: count})
        is_whole = self.num_lesions + sum(self.rejected.values()) == self.num_rows
        require(is_whole, "to be the sum of num_lesions and all rejected", num_rows=self.num_rows)


@checked(error=ValueError)
class ScoreDistribution:
    """The scores of all lesions, which need no outcomes."""

    mean: Fraction
    quantiles: tuple[Fraction, ...]
    """Of 5, 25, 50, 75 and 95 %."""
    bins: tuple[int, ...]
    """Lesions in each of ``NUM_SCORE_BINS`` bins."""
    num_called: Size | None
    """Lesions called malignant at the frozen threshold; null without one."""

    def __post_init__(self) -> None:
        require(len(self.quantiles) == 5, "to be five", quantiles=self.quantiles)
        require(len(self.bins) == NUM_SCORE_BINS, f"to be {NUM_SCORE_BINS}", bins=self.bins)


@checked(error=ValueError)
class ReliabilityBin:
    """Lesions with a score in one of ten equal bins."""

    predicted: Fraction
    """Their mean score."""
    observed: Fraction
    """The share of them that is malignant."""
    num_lesions: Count


@checked(error=ValueError)
class Difference:
    """One thing in which the lesions may differ from the run's own test lesions."""

    name: Text
    value: Fraction
    """Of scores the largest difference between the shares below a score, of columns the total variation."""
    by_chance: Fraction
    """What 95 % of random deals of the patients to two such sets do not exceed."""

    @property
    def is_drift(self) -> bool:
        """Whether chance alone does not explain it."""
        return self.value > self.by_chance


@checked(error=ValueError)
class FeatureDrift:
    """How the mean of the image features stands to the constants in the network."""

    is_cosine: bool
    """True: the cosine between both means, 1 if they agree. False: the mean's length over the root mean square."""
    value: Fraction
    interval: Interval
    """95 % over patients."""
    without_drift: Fraction | None
    """About the cosine that the privacy noise in the training mean leaves if nothing has drifted; null without one."""
    num_patients: Count

    def __post_init__(self) -> None:
        is_paired = (self.without_drift is not None) == self.is_cosine
        require(is_paired, "exactly with is_cosine", without_drift=self.without_drift)


@checked(error=ValueError)
class Drift:
    """Differences from what the run knew, from what its folder holds."""

    num_reference_lesions: Size | None
    """The run's own test lesions; null where its folder has none, so that scores and columns cannot be compared."""
    num_reference_patients: Size | None
    differences: tuple[Difference, ...]
    features: FeatureDrift | None
    """Null where the network reads no frozen features, or none were seen."""


class RecalibrationKind(StrEnum):
    """What of its own lesions a site uses."""

    OUTCOMES = "outcomes"
    """Their outcomes, for a line through the logits."""
    MEAN = "mean"
    """The mean of their image features, without outcomes."""


@checked(error=ValueError)
class Recalibration:
    """Scores adapted to some patients of the site, and what that did to the others; it stays at this machine."""

    kind: RecalibrationKind
    num_lesions_used: Count
    num_patients_used: Count
    scale: Positive | None
    """A logit ``l`` becomes ``scale * l + offset``; null with ``kind=mean``."""
    offset: float | None
    num_lesions_left: Count
    """Of the other patients, on whom the figures are."""
    num_patients_left: Count
    before: tuple[Estimate, ...]
    after: tuple[Estimate, ...]
    """The same figures; the threshold moved with the scores for outcomes, and stays as it is with the mean."""


@checked(error=ValueError)
class Evaluation:
    """The whole document."""

    schema_version: int = SCHEMA_VERSION
    run: EvaluatedRun
    lesions: EvaluatedLesions
    scores: ScoreDistribution
    evidence: Evidence | None
    """Null without outcomes, or where all are of one class."""
    one_class: GroupResult | None
    """What can be said of lesions of one class; null otherwise."""
    reliability: tuple[ReliabilityBin, ...]
    """Empty without outcomes."""
    drift: Drift
    recalibration: Recalibration | None
    """Null unless it was asked for."""
    source_fingerprint: Text
    """Of the code that evaluated."""
    finished: Time

    def __post_init__(self) -> None:
        require(self.schema_version == SCHEMA_VERSION, f"= {SCHEMA_VERSION}", schema_version=self.schema_version)
        has_figures = self.evidence is not None or self.one_class is not None
        has_outcomes = self.lesions.num_malignant is not None
        require(has_figures == has_outcomes, "exactly with outcomes", **{"evidence or one_class": has_figures})


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write the document, whole or not at all."""
    write_atomically(path, to_json(evaluation).encode())


def read_evaluation(path: Path) -> Evaluation:
    """Read what ``write_evaluation`` wrote.

    Raises:
        OSError: the file is not there.
        ValueError: it is no such document.
    """
    return build(Evaluation, from_json(path.read_text(encoding="utf-8")), path="evaluation")
