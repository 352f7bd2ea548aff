"""One JSON document per run: what was reached, by whom, at what privacy, with which code.

Its keys are the fields of ``Results`` and of the classes in it, in their order. Reading and writing are strict (see
``strict_json``), and a value out of its range is an error. A field is null only where its docstring says when.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from server.results.evidence import Evidence
from server.results.strict_json import build, check, check_range, from_text, to_text
from shared_model.config.choices import NoiseSource
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.system.files import write_atomically

SCHEMA_VERSION = 3
"""Raised whenever a key is added, removed or changes its meaning."""
RESULTS_FILE = "results.json"
"""Name of the document in the run's folder."""


class AurocSource(StrEnum):
    """Which lesions the final figures are computed from."""

    SERVER_HOLDOUT = "server_holdout"
    """The server's own test file: single scores, so figures are exact and have intervals over patients."""
    SITE_HISTOGRAMS = "site_histograms"
    """The added histograms of the sites' test lesions: AUROC to within the binning error, no intervals."""


class ThresholdSource(StrEnum):
    """Which patients the operating threshold was chosen on; never those it is reported on."""

    PUBLIC_PATIENTS = "public_patients"
    SITE_VALIDATION = "site_validation"


class PrivacyUnit(StrEnum):
    """Whose data the guarantee covers."""

    PATIENT = "patient"
    NONE = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalResult:
    """Figures of the final parameters."""

    auroc: float | None
    """In [0, 1]; null when the test lesions are of one class."""
    auroc_interval: ConfidenceInterval | None
    """95 % over patients; null without a server holdout, or with ``auroc``."""
    auroc_source: AurocSource
    """Where ``auroc``, ``sensitivity``, ``specificity`` and the two numbers of test lesions and patients come from."""
    auroc_site_histograms: float | None
    """AUROC of all sites' test lesions together; null when no site has test lesions of both classes to add."""
    auroc_site_histograms_error_bound: float | None
    """The most by which binning can have moved it; null with it."""
    auroc_site_histograms_noise_standard_error: float | None
    """Of the privacy noise in it, 0 for exact histograms; null with it."""
    sensitivity: float | None
    """At ``threshold``, in [0, 1]; null without malignant test lesions or threshold."""
    sensitivity_interval: ConfidenceInterval | None
    """95 % over patients; null without a server holdout, or with ``sensitivity``."""
    specificity: float | None
    """At ``threshold``, in [0, 1]; null without benign test lesions or threshold."""
    specificity_interval: ConfidenceInterval | None
    """95 % over patients; null without a server holdout, or with ``specificity``."""
    threshold: float | None
    """A lesion is called malignant from this score on, in [0, 1]; null without a malignant lesion to choose it by."""
    threshold_source: ThresholdSource
    target_sensitivity: float
    """The sensitivity, in (0, 1], that ``threshold`` reaches on the patients it was chosen on."""
    num_lesions: int | None
    """Null for noisy site histograms: they count patients, and not exactly."""
    num_patients: int | None
    """Null for site histograms: they count lesions."""
    round: int
    """The last round that the final parameters rest on, >= 1."""

    def __post_init__(self) -> None:
        figures = ("auroc", "sensitivity", "specificity")
        check_range(self, 0, 1, *figures, "threshold", "target_sensitivity")
        check_range(self, 0, 1, "auroc_site_histograms", "auroc_site_histograms_error_bound")
        check_range(self, 0, None, "auroc_site_histograms_noise_standard_error", "num_lesions", "num_patients")
        check_range(self, 1, None, "round")
        check(self, "target_sensitivity", self.target_sensitivity > 0, "> 0")
        for name in figures:
            interval = getattr(self, f"{name}_interval")
            has_scores = self.auroc_source is AurocSource.SERVER_HOLDOUT and getattr(self, name) is not None
            is_within = interval is None or 0 <= interval.low <= interval.high <= 1
            check(self, f"{name}_interval", is_within, "in [0, 1]")
            check(self, f"{name}_interval", interval is None or has_scores, f"only with {name} of a server holdout")
        for name in ("auroc_site_histograms_error_bound", "auroc_site_histograms_noise_standard_error"):
            is_bounded = (getattr(self, name) is None) == (self.auroc_site_histograms is None)
            check(self, name, is_bounded, "exactly where auroc_site_histograms is given")
        for name in ("sensitivity", "specificity"):
            check(self, name, self.threshold is not None or getattr(self, name) is None, "only with a threshold")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundResult:
    """One round: figures of the global parameters after it, and how it went."""

    round: int
    """From 1; rounds ascend."""
    auroc: float | None
    """In [0, 1]; null when the round was not evaluated, or on one class."""
    sensitivity: float | None
    """In [0, 1]; null when the round was not evaluated, or without malignant lesions."""
    specificity: float | None
    """In [0, 1]; null when the round was not evaluated, or without benign lesions."""
    threshold: float | None
    """This round's own operating threshold, in [0, 1]; null when the round was not evaluated."""
    epsilon: float | None
    """The largest that any site has spent up to this round; null when privacy is off."""
    num_sites: int
    """Sites whose update was aggregated."""
    failures: int
    """Sites that were asked and gave no valid reply."""
    seconds: float

    def __post_init__(self) -> None:
        check_range(self, 1, None, "round")
        check_range(self, 0, 1, "auroc", "sensitivity", "specificity", "threshold")
        check_range(self, 0, None, "epsilon", "num_sites", "failures", "seconds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteResult:
    """One site that took part."""

    site: str
    num_patients_declared: int
    """The training cohort as the site declares it: rounded down."""
    epsilon: float | None
    """What the site's ledger holds after the run, earlier runs on the cohort included; null when privacy is off."""
    delta: float | None
    """In [0, 1]; null when privacy is off."""
    noise_multiplier: float | None
    """>= 0; null when privacy is off."""
    auroc: float | None
    """Of the site's own test lesions, in [0, 1]; null without test lesions of both classes."""
    num_test_lesions: int | None
    """What the site's exact histogram counts, hence no further disclosure; null when the site sent none."""

    def __post_init__(self) -> None:
        check(self, "site", bool(self.site), "not empty")
        check_range(self, 0, None, "num_patients_declared", "epsilon", "noise_multiplier", "num_test_lesions")
        check_range(self, 0, 1, "delta", "auroc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyResult:
    """The promise under which the run stood."""

    unit: PrivacyUnit
    adjacency: str | None
    """When two data sets are neighbours; null when privacy is off."""
    mechanism: str | None
    """Null when privacy is off."""
    target_epsilon: float | None
    """Null when privacy is off."""
    noise_source: NoiseSource | None
    """``seeded`` noise is reproducible and protects nobody; null when privacy is off."""
    evaluation: str
    """Whether test counts were noised: they are of other patients than those trained on."""
    statement: str
    """The guarantee, or its absence, in a sentence for the reader of the report."""

    def __post_init__(self) -> None:
        check_range(self, 0, None, "target_epsilon")
        for name in ("evaluation", "statement"):
            check(self, name, bool(getattr(self, name)), "not empty")
        for name in ("adjacency", "mechanism", "target_epsilon", "noise_source"):
            is_given = getattr(self, name) is not None
            check(self, name, is_given == (self.unit is PrivacyUnit.PATIENT), "given exactly with unit=patient")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunProvenance:
    """What it takes to run this again."""

    source_fingerprint: str
    config_fingerprint: str
    versions: Mapping[str, str]
    """Package to version."""
    python: str
    platform: str
    started: str
    """ISO 8601 with offset from UTC."""
    finished: str
    """ISO 8601 with offset from UTC; not before ``started``."""
    seconds: float
    """Time that the run took, without pauses between a crash and its resumption."""

    def __post_init__(self) -> None:
        for name in ("source_fingerprint", "config_fingerprint", "python", "platform"):
            check(self, name, bool(getattr(self, name)), "not empty")
        check_range(self, 0, None, "seconds")
        for name in ("started", "finished"):
            has_offset = datetime.fromisoformat(getattr(self, name)).tzinfo is not None
            check(self, name, has_offset, "with an offset from UTC")
        is_ordered = datetime.fromisoformat(self.started) <= datetime.fromisoformat(self.finished)
        check(self, "finished", is_ordered, f">= started={self.started}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """The whole document."""

    schema_version: int = SCHEMA_VERSION
    preset: str
    seed: int
    final: FinalResult
    evidence: Evidence | None
    """Further figures of the final parameters; null where the test lesions are of one class or their counts noisy."""
    rounds: tuple[RoundResult, ...]
    sites: tuple[SiteResult, ...]
    privacy: PrivacyResult
    provenance: RunProvenance

    def __post_init__(self) -> None:
        check(self, "schema_version", self.schema_version == SCHEMA_VERSION, f"= {SCHEMA_VERSION}")
        numbers = [entry.round for entry in self.rounds]
        check(self, "rounds", numbers == sorted(set(numbers)), "ascending")
        names = [entry.site for entry in self.sites]
        check(self, "sites", len(set(names)) == len(names), "of different names")
        is_private = self.privacy.unit is PrivacyUnit.PATIENT
        spent = [entry.epsilon for entry in self.rounds]
        spent += [value for entry in self.sites for value in (entry.epsilon, entry.delta, entry.noise_multiplier)]
        is_complete = all((value is not None) == is_private for value in spent)
        check(self, "privacy", is_complete, "to agree with the epsilon of every round and site")


def write_results(results: Results, path: Path) -> None:
    """Write ``results`` as JSON to ``path``, whole or not at all.

    Raises:
        ValueError: a value would not be read back, for instance one of a NumPy type.
    """
    try:
        text = to_text(results)
        _parse(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected results that can be read back: {error}") from error
    write_atomically(path, text.encode())


def read_results(path: Path) -> Results:
    """Read what ``write_results`` wrote.

    Raises:
        OSError: the file is not there.
        ValueError: the file is not such a document, or of another schema version.
    """
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected results of schema version {SCHEMA_VERSION} in {path}: {error}") from error


def _parse(text: str) -> Results:
    values = from_text(text)
    if isinstance(values, Mapping) and values.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"Expected schema_version={values.get('schema_version')} = {SCHEMA_VERSION}.")
    return build(Results, values, "results")
