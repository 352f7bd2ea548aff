"""Second reader: what a reader, the network, and both together call, on the same test lesions.

The reader is the radiologist whose assessment stands in the tables. It is one who saw other views and the clinical
history too, and the network was not at hand then: these are figures of calls put together afterwards, no reader study.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from server.evaluation.predictions import UNKNOWN, Predictions
from shared_model.metrics.bootstrap import MIN_DEFINED
from shared_model.metrics.counts import FloatArray
from shared_model.metrics.intervals import CONFIDENCE_LEVEL, ConfidenceInterval
from shared_model.system.seeding import numpy_generator

ASSESSMENT = "assessment"
"""The attribute that holds the reader's BI-RADS assessment, 1 to 5."""
_SUSPICIOUS = ("4", "5")
"""BI-RADS assessments after which a biopsy is advised."""
_NOT_SUSPICIOUS = ("1", "2", "3")
_RULE_SHARES = ("sensitivity", "specificity", "sensitivity_gain", "specificity_gain")
_DISAGREEMENT = "disagreement"
Calls = NDArray[np.bool_]


class ReadingRule(StrEnum):
    """How the calls of reader and network become one."""

    READER = "reader"
    NETWORK = "network"
    EITHER = "either"
    BOTH = "both"
    ARBITRATION = "arbitration"

    @property
    def words(self) -> str:
        """What the report calls it."""
        return {
            ReadingRule.READER: "reader alone",
            ReadingRule.NETWORK: "network alone",
            ReadingRule.EITHER: "malignant if either says so",
            ReadingRule.BOTH: "malignant if both say so",
            ReadingRule.ARBITRATION: "disagreements decided by a third reader who is never wrong",
        }[self]


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of lesions, or a difference of two, and how far other patients would move it."""

    value: float
    """In [0, 1], of a difference in [-1, 1]."""
    interval: ConfidenceInterval | None
    """95 % over patients; None where too many resamples have no such lesion."""


@dataclass(frozen=True, kw_only=True)
class RuleFigures:
    """What one rule reaches, beside the reader alone."""

    rule: ReadingRule
    sensitivity: Share
    specificity: Share
    sensitivity_gain: Share
    """Over the reader alone, on the same lesions."""
    specificity_gain: Share
    """Likewise."""
    missed: int
    """Malignant lesions that the rule calls benign."""
    false_alarms: int
    """Benign lesions that the rule calls malignant."""


@dataclass(frozen=True, kw_only=True)
class SecondReader:
    """Figures of the rules on the test lesions that the reader assessed."""

    num_lesions: int
    num_malignant: int
    num_left_out: int
    """Test lesions without an assessment from 1 to 5, such as BI-RADS 0, "incomplete"."""
    disagreement: Share
    """Lesions that reader and network call differently: those that a third reader would see."""
    rules: tuple[RuleFigures, ...]


def second_reader(predictions: Predictions, threshold: float, *, num_resamples: int, seed: int) -> SecondReader | None:
    """Return the figures; None where no lesion has an assessment, or those that have are of one class.

    Whoever calls sees to it that the network read nothing that the same reader wrote.

    Args:
        predictions: of the test lesions.
        threshold: frozen on other patients.
        num_resamples: of the bootstrap over patients, >= 1.
        seed: of the bootstrap.
    """
    stated = np.array(predictions.attributes.get(ASSESSMENT, (UNKNOWN,) * len(predictions.labels)))
    is_assessed = np.isin(stated, _SUSPICIOUS + _NOT_SUSPICIOUS)
    assessed = predictions.select(is_assessed)
    labels = assessed.labels == 1
    if labels.all() or not labels.any():
        return None
    calls = _calls(labels, np.isin(stated[is_assessed], _SUSPICIOUS), assessed.scores >= threshold)
    shares = _shares(_ratios(labels, calls), assessed.patients, num_resamples, seed)
    return SecondReader(
        num_lesions=len(labels),
        num_malignant=int(labels.sum()),
        num_left_out=int((~is_assessed).sum()),
        disagreement=shares[_DISAGREEMENT],
        rules=tuple(
            RuleFigures(
                rule=rule,
                **{name: shares[f"{rule} {name}"] for name in _RULE_SHARES},
                missed=int((labels & ~made).sum()),
                false_alarms=int((~labels & made).sum()),
            )
            for rule, made in calls.items()
        ),
    )


def _calls(labels: Calls, reader: Calls, network: Calls) -> Mapping[ReadingRule, Calls]:
    return {
        ReadingRule.READER: reader,
        ReadingRule.NETWORK: network,
        ReadingRule.EITHER: reader | network,
        ReadingRule.BOTH: reader & network,
        ReadingRule.ARBITRATION: np.where(reader == network, reader, labels),
    }


def _ratios(labels: Calls, calls: Mapping[ReadingRule, Calls]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return every share as what each lesion adds above and below the line, ``(N,)`` each."""
    malignant, benign = labels.astype(float), (~labels).astype(float)
    reader = calls[ReadingRule.READER].astype(float)
    found = {_DISAGREEMENT: (np.abs(reader - calls[ReadingRule.NETWORK]), np.ones(len(labels)))}
    for rule, made in calls.items():
        called = made.astype(float)
        shares = (called, 1 - called, called - reader, reader - called)
        for name, above, below in zip(_RULE_SHARES, shares, (malignant, benign) * 2, strict=True):
            found[f"{rule} {name}"] = (above * below, below)
    return found


def _shares(
    ratios: Mapping[str, tuple[FloatArray, FloatArray]], patients: NDArray[np.int64], num_resamples: int, seed: int
) -> dict[str, Share]:
    """Return the shares with percentile intervals when patients are drawn again, all lesions of a patient together.

    A share of none or of all is the same in every resample: its interval is the exact one, each patient counted once.
    """
    above, below = (np.stack(rows) for rows in zip(*ratios.values(), strict=True))
    number_of_patient = np.unique(patients, return_inverse=True)[1]
    num_patients = int(number_of_patient.max()) + 1
    generator = numpy_generator(seed, "bootstrap", "second reader")
    drawn = np.full((num_resamples, len(ratios)), np.nan)
    for row in drawn:
        weights = np.bincount(generator.integers(num_patients, size=num_patients), minlength=num_patients)
        sums = below @ weights[number_of_patient]
        np.divide(above @ weights[number_of_patient], sums, out=row, where=sums > 0)
    values = above.sum(axis=1) / below.sum(axis=1)
    shares = {
        name: Share(value=float(value), interval=_interval(column))
        for name, value, column in zip(ratios, values, drawn.T, strict=True)
    }
    for name, (whole, share) in zip(shares, zip(below, shares.values(), strict=True), strict=True):
        if share.value in (0, 1) and not name.endswith("_gain"):
            exact = exact_interval(round(share.value), len(np.unique(number_of_patient[whole > 0])))
            shares[name] = Share(value=share.value, interval=exact)
    return shares


def exact_interval(all_of_them: int, num_patients: int) -> ConfidenceInterval:
    """Return the 95 % interval (Clopper and Pearson 1934) of a share that none (0) or all (1) of the patients have.

    >>> round(exact_interval(1, 100).low, 3)
    0.964
    """
    farthest = ((1 - CONFIDENCE_LEVEL) / 2) ** (1 / num_patients)
    return ConfidenceInterval(low=farthest, high=1.0) if all_of_them else ConfidenceInterval(low=0.0, high=1 - farthest)


def _interval(values: FloatArray) -> ConfidenceInterval | None:
    defined = values[~np.isnan(values)]
    if len(defined) < MIN_DEFINED * len(values):
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return ConfidenceInterval(low=float(low), high=float(high))
