"""One JSON document per run: what was reached, by whom, at what privacy, with which code.

Its keys are the fields of ``Results`` and of the classes in it, in their order; all are checked, whether they are
written or read (see ``shared_model.system.checked``). A field is null only where its docstring says when.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from server.results.estimate import Size
from server.results.evidence import Evidence
from shared_model.config.bounds import Count, Fraction, NotNegative, PositiveFraction, Text, UnitInterval
from shared_model.config.choices import NoiseSource
from shared_model.system.checked import build, checked, require, rule
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically

SCHEMA_VERSION = 7
"""Raised whenever a key is added, removed or changes its meaning."""
RESULTS_FILE = "results.json"
"""Name of the document in the run's folder."""
Time = Annotated[str, rule(lambda text: datetime.fromisoformat(text).tzinfo is not None, "with an offset from UTC")]
"""ISO 8601."""


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
    SITE_TRAINING = "site_training"

    @property
    def words(self) -> str:
        """What a reader calls them."""
        return {
            ThresholdSource.PUBLIC_PATIENTS: "public training patients",
            ThresholdSource.SITE_VALIDATION: "the sites' validation patients",
            ThresholdSource.SITE_TRAINING: "the sites' training patients, counted with noise where privacy asks for it",
        }[self]


class PrivacyUnit(StrEnum):
    """Whose data the guarantee covers."""

    PATIENT = "patient"
    NONE = "none"


@checked(error=ValueError)
class FinalResult:
    """Figures of the final parameters."""

    auroc: Fraction | None
    """In [0, 1]; null when the test lesions are of one class."""
    auroc_interval: UnitInterval | None
    """95 % over patients; null without a server holdout, or with ``auroc``."""
    auroc_source: AurocSource
    """Where ``auroc``, ``sensitivity``, ``specificity`` and the two numbers of test lesions and patients come from."""
    auroc_site_histograms: Fraction | None
    """AUROC of all sites' test lesions together; null when no site has test lesions of both classes to add."""
    auroc_site_histograms_error_bound: Fraction | None
    """The most by which binning can have moved it; null with it."""
    auroc_site_histograms_noise_standard_error: NotNegative | None
    """Of the privacy noise in it, 0 for exact histograms; null with it."""
    sensitivity: Fraction | None
    """At ``threshold``, in [0, 1]; null without malignant test lesions or threshold."""
    sensitivity_interval: UnitInterval | None
    """95 % over patients; null without a server holdout, or with ``sensitivity``."""
    specificity: Fraction | None
    """At ``threshold``, in [0, 1]; null without benign test lesions or threshold."""
    specificity_interval: UnitInterval | None
    """95 % over patients; null without a server holdout, or with ``specificity``."""
    threshold: Fraction | None
    """A lesion is called malignant from this score on, in [0, 1]; null without a malignant lesion to choose it by."""
    threshold_source: ThresholdSource
    target_sensitivity: PositiveFraction
    """The sensitivity, in (0, 1], that ``threshold`` reaches on the patients it was chosen on."""
    num_lesions: Size | None
    """Null for noisy site histograms: they count patients, and not exactly."""
    num_patients: Size | None
    """Null for site histograms: they count lesions."""
    round: Count
    """The last round that the final parameters rest on, >= 1."""

    def __post_init__(self) -> None:
        for name in ("auroc", "sensitivity", "specificity"):
            interval = getattr(self, f"{name}_interval")
            has_scores = self.auroc_source is AurocSource.SERVER_HOLDOUT and getattr(self, name) is not None
            expectation = f"only with {name} of a server holdout"
            require(interval is None or has_scores, expectation, **{f"{name}_interval": interval})
        for name in ("auroc_site_histograms_error_bound", "auroc_site_histograms_noise_standard_error"):
            value = getattr(self, name)
            is_paired = (value is None) == (self.auroc_site_histograms is None)
            require(is_paired, "exactly where auroc_site_histograms is given", **{name: value})
        for name in ("sensitivity", "specificity"):
            value = getattr(self, name)
            require(self.threshold is not None or value is None, "only with a threshold", **{name: value})


@checked(error=ValueError)
class RoundResult:
    """One round: figures of the global parameters after it, and how it went."""

    round: Count
    """From 1; rounds ascend."""
    auroc: Fraction | None
    """In [0, 1]; null when the round was not evaluated, or on one class."""
    sensitivity: Fraction | None
    """In [0, 1]; null when the round was not evaluated, or without malignant lesions."""
    specificity: Fraction | None
    """In [0, 1]; null when the round was not evaluated, or without benign lesions."""
    threshold: Fraction | None
    """This round's own operating threshold, in [0, 1]; null when the round was not evaluated."""
    epsilon: NotNegative | None
    """The largest price of the run at any site up to this round; null when privacy is off."""
    num_sites: Size
    """Sites whose update was aggregated."""
    failures: Size
    """Sites that were asked and gave no valid reply."""
    warnings: tuple[Text, ...]
    """Sites whose ledger did not continue from what it had shown before."""
    outliers: tuple[Text, ...]
    """Sites whose update stood out from the others', and what was done about it."""
    seconds: NotNegative


@checked(error=ValueError)
class SiteResult:
    """One site that took part."""

    site: Text
    num_patients_declared: Size
    """The size of its training cohort that the site tells: a constant of its policy, and not a count."""
    epsilon: NotNegative | None
    """The price of this run alone: what it costs a patient who takes part in all of it; null when privacy is off. What
    patients have spent over all runs stands in the site's own report."""
    delta: Fraction | None
    """In [0, 1]; null when privacy is off."""
    noise_multiplier: NotNegative | None
    """>= 0, of secure sums in the sum; null when privacy is off."""
    epsilon_by_colluding: tuple[NotNegative | None, ...]
    """What the run costs her if 0, 1, ... of the sites of a secure sum work with the server, up to all others, which is
    also the price to whoever breaks the sums. The first is ``epsilon``; the others are of all releases of the run, more
    than a site that was away has made. Null where too little noise is left for any guarantee; the first alone without
    secure sums; none when privacy is off."""
    auroc: Fraction | None
    """In [0, 1], of the site's patients among the server's own test lesions, where these name their sites, and else of
    the site's histogram; null without test lesions of both classes, or where noise hides them."""
    num_test_lesions: Size | None
    """What ``auroc`` is of; null for a noisy histogram and for none."""

    def __post_init__(self) -> None:
        prices = self.epsilon_by_colluding
        is_own = prices[:1] == (() if self.epsilon is None else (self.epsilon,))
        require(is_own, "to begin with epsilon", epsilon_by_colluding=prices)
        bounds = [math.inf if price is None else price for price in prices]
        require(bounds == sorted(bounds), "to be ascending", epsilon_by_colluding=prices)


@checked(error=ValueError)
class AbsentSite:
    """A site of the federation that took no part."""

    site: Text
    reason: Text
    """Of the last round, in one line."""


@checked(error=ValueError)
class PrivacyResult:
    """The promise under which the run stood."""

    unit: PrivacyUnit
    adjacency: str | None
    """When two data sets are neighbours; null when privacy is off."""
    mechanism: str | None
    """Null when privacy is off."""
    target_epsilon: NotNegative | None
    """Null when privacy is off."""
    noise_source: NoiseSource | None
    """``seeded`` noise is reproducible and protects nobody; null when privacy is off."""
    secure_sum: bool
    """Whether of what sites sent in training the server saw only sums over ``num_noise_shares`` or more of them."""
    num_noise_shares: Count
    """Shares of noise that every sum has at least; 1 where each site adds all noise itself."""
    max_colluding: Size
    """Sites that may work with the server and still cannot open a sum of fewer; 0 without secure sums."""
    evaluation: Text
    """Whether test counts were noised: they are of other patients than those trained on."""
    statement: Text
    """The guarantee, or its absence, in a sentence for the reader of the report."""

    def __post_init__(self) -> None:
        for name in ("adjacency", "mechanism", "target_epsilon", "noise_source"):
            value = getattr(self, name)
            is_private = self.unit is PrivacyUnit.PATIENT
            require((value is not None) == is_private, "given exactly with unit=patient", **{name: value})
        expectation = f"{'>= 2' if self.secure_sum else '== 1'} with secure_sum={str(self.secure_sum).lower()}"
        is_shared = self.num_noise_shares >= 2
        require(is_shared == self.secure_sum, expectation, num_noise_shares=self.num_noise_shares)
        require(self.secure_sum or self.max_colluding == 0, "== 0 without secure_sum", max_colluding=self.max_colluding)


@checked(error=ValueError)
class ReferenceResult:
    """Numbers of public lesions that the network began with, from one file."""

    data_set: Text
    sites: tuple[Text, ...]
    """Its hospitals whose patients they are of; empty for all."""
    num_patients: Count
    licence: Text
    citation: Text
    file_sha256: Text
    has_head: bool
    """Whether the head began trained on them; else the feature constants alone are theirs."""

    @property
    def statement(self) -> str:
        """What a reader should know, in a sentence."""
        where = f" of {', '.join(self.sites)}" if self.sites else ""
        what = "Feature constants and the head before training" if self.has_head else "Feature constants"
        return (
            f"{what} come from {self.num_patients} public patients{where} of {self.data_set} ({self.licence}), file "
            f"{self.file_sha256[:12]}: {self.citation}."
        )


@checked(error=ValueError)
class RunProvenance:
    """What it takes to run this again."""

    source_fingerprint: Text
    config_fingerprint: Text
    versions: Mapping[str, str]
    """Package to version."""
    python: Text
    platform: Text
    started: Time
    """ISO 8601 with offset from UTC."""
    finished: Time
    """ISO 8601 with offset from UTC; not before ``started``."""
    seconds: NotNegative
    """Time that the run took, without pauses between a crash and its resumption."""

    def __post_init__(self) -> None:
        is_ordered = datetime.fromisoformat(self.started) <= datetime.fromisoformat(self.finished)
        require(is_ordered, f">= started={self.started}", finished=self.finished)


@checked(error=ValueError)
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
    """Those of whom an update was used."""
    absent: tuple[AbsentSite, ...]
    """The others of the federation."""
    privacy: PrivacyResult
    reference: ReferenceResult | None
    """Null where no numbers from elsewhere were used."""
    provenance: RunProvenance

    def __post_init__(self) -> None:
        require(self.schema_version == SCHEMA_VERSION, f"= {SCHEMA_VERSION}", schema_version=self.schema_version)
        numbers = [entry.round for entry in self.rounds]
        require(numbers == sorted(set(numbers)), "to be ascending", rounds=numbers)
        names = [entry.site for entry in self.sites]
        require(len(set(names)) == len(names), "to have different names", sites=names)
        is_private = self.privacy.unit is PrivacyUnit.PATIENT
        spent = [entry.epsilon for entry in self.rounds]
        spent += [value for entry in self.sites for value in (entry.epsilon, entry.delta, entry.noise_multiplier)]
        is_complete = all((value is not None) == is_private for value in spent)
        expectation = "to agree with the epsilon of every round and site"
        require(is_complete, expectation, **{"privacy.unit": self.privacy.unit})
        expectation = "to agree with the number of prices of every site"
        is_complete = all(len(entry.epsilon_by_colluding) == self._num_prices for entry in self.sites)
        require(is_complete, expectation, **{"privacy.num_noise_shares": self.privacy.num_noise_shares})

    @property
    def _num_prices(self) -> int:
        return self.privacy.num_noise_shares if self.privacy.unit is PrivacyUnit.PATIENT else 0

    def rounds_by_outlier(self) -> dict[str, list[int]]:
        """Return what the rounds say of sites whose update stood out, each with the rounds that say so."""
        found: dict[str, list[int]] = {}
        for entry in self.rounds:
            for outlier in entry.outliers:
                found.setdefault(outlier, []).append(entry.round)
        return dict(sorted(found.items()))


def write_results(results: Results, path: Path) -> None:
    """Write ``results`` as JSON to ``path``, whole or not at all.

    Raises:
        ValueError: a text in it is no Unicode.
    """
    try:
        content = to_json(results).encode()
    except ValueError as error:
        raise ValueError(f"Expected results that can be read back: {error}") from error
    write_atomically(path, content)


def read_results(path: Path) -> Results:
    """Read what ``write_results`` wrote.

    Raises:
        OSError: the file is not there.
        ValueError: the file is not such a document, or of another schema version.
    """
    try:
        values = from_json(path.read_text(encoding="utf-8"))
        _require_version(values)
        return build(Results, values, path="results")
    except ValueError as error:
        raise ValueError(f"Expected results of schema version {SCHEMA_VERSION} in {path}: {error}") from error


def _require_version(values: object) -> None:
    # First of all, since another version has other keys.
    if isinstance(values, Mapping) and values.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"Expected schema_version={values.get('schema_version')} = {SCHEMA_VERSION}.")
