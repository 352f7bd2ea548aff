"""``release.json``: what a released network may be asked, what its answers are worth, and the digests of its files.

The document names the SHA-256 of every other file of the folder, so that its own SHA-256 fixes all of them: that is
the release's digest, which the coordinator signs and a site approves. Nothing in it is about one patient of a site:
what a run learnt of them is there only with the noise that its epsilon promises.
"""

import re
from collections.abc import Mapping
from typing import Annotated

from annotated_types import Interval as Between
from annotated_types import Len

from shared_model.config.bounds import Count, Fraction, Interval, NotNegative, Positive
from shared_model.config.choices import ImageMode, Modality, Views
from shared_model.config.site_sections import ImageConfig, ModelConfig
from shared_model.errors import ReleaseError
from shared_model.system.checked import DISTINCT, NOT_EMPTY, checked, require, rule
from shared_model.vocabulary import FeaturePolicy, LesionType, clinical_columns

FORMAT_VERSION = 3
"""Raised whenever a key is added, removed or changes its meaning; a reader refuses every other."""
DOCUMENT_FILE, MODEL_FILE, REFERENCE_FILE = "release.json", "model.safetensors", "reference.safetensors"
MODEL_CARD_FILE, ONNX_FILE = "model_card.md", "model.onnx"
SIGNATURE_FILE, CERTIFICATE_FILE = "release.sig", "certificate.pem"
CONTENT_FILES = (MODEL_FILE, REFERENCE_FILE, MODEL_CARD_FILE, ONNX_FILE)
"""What the document may name; no name comes from a stranger."""
NOT_CALIBRATED = "novelty and abstention were not calibrated"
"""Said by release, model card and every reading where the coordinator had no public lesions."""
MAX_DRAWS = 1000
MAX_PICTURES = 500
"""Of which a release has grey levels."""

Text = Annotated[str, NOT_EMPTY, Len(0, 2000), rule(str.isprintable, "to be one printable line")]
Digest = Annotated[str, rule(re.compile(r"[0-9a-f]{64}").fullmatch, "to be a SHA-256 digest in lower case")]
Level = Annotated[float, Between(ge=0.5, lt=1)]
Slope = Annotated[float, Between(gt=0, le=100)]
Offset = Annotated[float, Between(ge=-100, le=100)]


@checked(key="columns", error=ReleaseError)
class ColumnContract:
    """One clinical column that the network reads."""

    name: Text
    values: Annotated[tuple[str, ...], NOT_EMPTY, DISTINCT]
    """What may stand in it; several, joined by hyphens, only if ``is_multiple``."""
    is_multiple: bool


@checked(key="grey_reference", error=ReleaseError)
class GreyContract:
    """Between which grey levels pictures of public lesions lie, with some slack, by the numbers of ``GreyLevels``."""

    num_pictures: Count
    lowest: Mapping[str, float]
    highest: Mapping[str, float]
    values: Mapping[str, Annotated[tuple[float, ...], Len(1, MAX_PICTURES)]]
    """Number by number what the pictures have, ascending, one for each public patient, to compare a site's own with."""

    def __post_init__(self) -> None:
        is_paired = set(self.lowest) == set(self.highest) and all(
            low <= self.highest[name] for name, low in self.lowest.items()
        )
        require(is_paired, "to be at most highest, number by number", lowest=dict(self.lowest))
        require(set(self.values) == set(self.lowest), "of the same numbers as lowest", values=sorted(self.values))


@checked(key="contract", error=ReleaseError)
class InputContract:
    """What a lesion must be shown and described as: the same as in training."""

    image: ImageConfig
    """Mode and geometry. A ``crop`` release takes no film: what is cut at a box is another picture."""
    model: ModelConfig
    features: FeaturePolicy
    views: Views
    lesion_types: Annotated[tuple[LesionType, ...], NOT_EMPTY, DISTINCT]
    columns: tuple[ColumnContract, ...]
    grey_reference: GreyContract | None
    """Null where the coordinator had no public images; then only plain negatives are told."""

    def __post_init__(self) -> None:
        require(
            self.columns == column_contracts(self.features, self.model.modality),
            "to be those of this version's vocabulary: the release was made by another",
            columns=[column.name for column in self.columns],
        )
        reads_pixels = self.model.modality is not Modality.CLINICAL and not self.model.backbone.is_frozen
        require(self.views is Views.OWN or not reads_pixels, "own for a network of pixels", views=self.views)

    @property
    def needs_box(self) -> bool:
        """Whether the network reads what is cut from a film at a box."""
        return self.model.modality is not Modality.CLINICAL and self.image.mode is ImageMode.ROI


def column_contracts(features: FeaturePolicy, modality: Modality) -> tuple[ColumnContract, ...]:
    """Return the columns that a network of this policy reads; none where it reads images alone."""
    if modality is Modality.IMAGE:
        return ()
    return tuple(
        ColumnContract(name=column.name, values=column.values, is_multiple=column.is_multiple)
        for column in clinical_columns(features)
    )


@checked(key="scaling", error=ReleaseError)
class ScalingUncertainty:
    """How sure the line is that makes logits probabilities: draws of ``(slope, offset)``, beside (1, 0) of the network.

    A draw turns the network's logit ``l`` into ``slope * l + offset``.
    """

    source: Text
    """What the draws come from, in a sentence."""
    slopes: Annotated[tuple[Slope, ...], Len(20, MAX_DRAWS)]
    offsets: Annotated[tuple[Offset, ...], Len(20, MAX_DRAWS)]

    def __post_init__(self) -> None:
        require(len(self.slopes) == len(self.offsets), "as many as slopes", offsets=len(self.offsets))


@checked(key="threshold", error=ReleaseError)
class Threshold:
    """The probability from which on a lesion is called malignant."""

    value: Fraction
    interval: Interval
    """95 % over what it was chosen by."""
    source: Text
    target_sensitivity: Fraction

    def __post_init__(self) -> None:
        is_inside = 0 <= self.interval.low <= self.value <= self.interval.high <= 1
        require(is_inside, f"in [0, 1] to hold value={self.value}", interval=self.interval)


@checked(key="measured", error=ReleaseError)
class MeasuredCoverage:
    """What the sets reach on public patients who had no part in them (five parts, each by the other four)."""

    num_benign: Count
    num_malignant: Count
    coverage: Fraction
    """Of all lesions; as ``abstained``, it depends on how many are malignant."""
    coverage_interval: Interval | None
    """95 % over public patients, as the next ones; null where resamples say nothing."""
    coverage_benign: Fraction
    coverage_benign_interval: Interval | None
    coverage_malignant: Fraction
    coverage_malignant_interval: Interval | None
    abstained: Fraction
    """Share of the lesions for which no single label was left."""
    abstained_interval: Interval | None


@checked(key="abstention", error=ReleaseError)
class Abstention:
    """Class-conditional conformal sets (Vovk 2012, Mondrian): a label whose p-value is too small leaves the set.

    A reading abstains where the set does not hold exactly one label. Scores are the network's probabilities.
    """

    level: Level
    """The share of lesions of either class whose set holds the true label, if they are like the public ones."""
    benign_scores: Annotated[tuple[Fraction, ...], Len(1, 100_000)]
    """Of the public benign lesions, one for each patient and class."""
    malignant_scores: Annotated[tuple[Fraction, ...], Len(1, 100_000)]
    measured: MeasuredCoverage


@checked(key="novelty", error=ReleaseError)
class Novelty:
    """From which distance on a lesion's features are called unlike those of the public lesions."""

    num_lesions: Count
    limit: Positive
    flagged: Fraction
    """Share of public patients' lesions beyond the limit that had no part in it; how many strange ones pass is not
    known."""


@checked(key="public", error=ReleaseError)
class PublicReference:
    """What was calibrated on public lesions."""

    source: Text
    """Whose they are."""
    overlaps_training: bool
    """Whether patients of the training may be among them, which makes the coverage look too good."""
    abstention: Abstention | None
    """Null with too few patients of a class."""
    novelty: Novelty | None
    """Null for a network without frozen features, or with too few lesions."""


@checked(key="sites", error=ReleaseError)
class SitePrivacy:
    """What the run promised the patients of one site."""

    site: Text
    epsilon: NotNegative | None
    """Null where the run had no privacy."""
    delta: Fraction | None


@checked(key="figures", error=ReleaseError)
class TestFigures:
    """Of the frozen threshold on the coordinator's own test lesions, which it has said to be public."""

    num_lesions: Count
    auroc: Fraction | None
    auroc_interval: Interval | None
    sensitivity: Fraction | None
    sensitivity_interval: Interval | None
    specificity: Fraction | None
    specificity_interval: Interval | None


@checked(key="provenance", error=ReleaseError)
class Provenance:
    """What made the network."""

    preset: Text
    source_fingerprint: Text
    config_fingerprint: Text
    run_finished: Text
    versions: Mapping[str, str]
    encoder_sha256: Digest | None
    """Of the frozen encoder's weights, which a registry package ships; null where the network has its own."""


@checked(key="release", error=ReleaseError)
class Release:
    """The whole document."""

    format_version: int = FORMAT_VERSION
    name: Text
    is_signed: bool
    """Whether the coordinator meant to sign it: a signature that is missing then is an error."""
    contract: InputContract
    threshold: Threshold
    scaling: ScalingUncertainty
    public: PublicReference | None
    """Null where the coordinator named no public lesions: then a reading neither abstains nor knows novelty."""
    figures: TestFigures | None
    privacy_statement: Text
    sites: Annotated[tuple[SitePrivacy, ...], NOT_EMPTY]
    limits: Annotated[tuple[Text, ...], NOT_EMPTY]
    """When not to trust it, whatever the lesion."""
    provenance: Provenance
    files: Mapping[str, Digest]
    """SHA-256 by name of every other file that belongs to the release."""

    def __post_init__(self) -> None:
        require(self.format_version == FORMAT_VERSION, f"= {FORMAT_VERSION}", format_version=self.format_version)
        absent = {name for name, is_there in self._optional.items() if not is_there}
        known = set(CONTENT_FILES) - absent
        require(set(self.files) == known, f"to be {', '.join(sorted(known))}", files=sorted(self.files))
        is_frozen = self.contract.model.reads_frozen_features
        encoder = self.provenance.encoder_sha256
        require((encoder is not None) == is_frozen, "given exactly with a frozen encoder", encoder_sha256=encoder)

    @property
    def _optional(self) -> Mapping[str, bool]:
        return {REFERENCE_FILE: self.has_reference, ONNX_FILE: self.has_onnx}

    @property
    def has_reference(self) -> bool:
        """Whether a file holds the features of public lesions."""
        return self.public is not None and self.public.novelty is not None

    @property
    def has_onnx(self) -> bool:
        """Whether a file holds the network for other programs; no reader here opens it."""
        return ONNX_FILE in self.files
