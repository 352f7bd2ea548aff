"""Second reader: what a reader, the network, and both together call, on the same test lesions.

The reader is the radiologist whose assessment stands in the tables. It is one who saw other views and the clinical
history too, and the network was not at hand then: these are figures of calls put together afterwards, no reader study.
Decision referral after Leibig et al. 2022, Lancet Digital Health 4:e507, with conformal sets to say where it is sure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from server.evaluation.conformal_coverage import DEFAULT_LEVEL, cross_fitted_labels
from server.evaluation.patient_shares import Ratio, Share, patient_shares
from server.evaluation.predictions import UNKNOWN, Predictions
from shared_model.system.seeding import numpy_generator

ASSESSMENT = "assessment"
"""The attribute that holds the reader's BI-RADS assessment, 1 to 5."""
_SUSPICIOUS = ("4", "5")
"""BI-RADS assessments after which a biopsy is advised."""
_NOT_SUSPICIOUS = ("1", "2", "3")
_RULE_SHARES = ("sensitivity", "specificity", "sensitivity_gain", "specificity_gain")
_DISAGREEMENT, _REFERRED = "disagreement", "referred"
Calls = NDArray[np.bool_]


class ReadingRule(StrEnum):
    """How the calls of reader and network become one."""

    READER = "reader"
    NETWORK = "network"
    EITHER = "either"
    BOTH = "both"
    ARBITRATION = "arbitration"
    REFERRAL = "referral"

    @property
    def words(self) -> str:
        """What the report calls it."""
        return {
            ReadingRule.READER: "reader alone",
            ReadingRule.NETWORK: "network alone",
            ReadingRule.EITHER: "malignant if either says so",
            ReadingRule.BOTH: "malignant if both say so",
            ReadingRule.ARBITRATION: "disagreements decided by a third reader who is never wrong",
            ReadingRule.REFERRAL: "decision referral: the network where it is sure, else the reader",
        }[self]


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
    referral_level: float
    """The network is sure where the conformal sets of this level leave one label."""
    referred: Share | None
    """Lesions where it is not, so that the reader decides; None with too few patients to make the sets of."""
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
    ratios = {}
    # The sets are made of all test patients: they need no assessment.
    possible = cross_fitted_labels(predictions, level=DEFAULT_LEVEL, seed=seed)
    if possible is not None:
        is_sure = possible.is_single[is_assessed]
        calls |= {
            ReadingRule.REFERRAL: np.where(is_sure, possible.has_malignant[is_assessed], calls[ReadingRule.READER])
        }
        ratios[_REFERRED] = Ratio(above=(~is_sure).astype(float), below=np.ones(len(labels)))
    generator = numpy_generator(seed, "bootstrap", "second reader")
    shares = patient_shares(_ratios(labels, calls) | ratios, assessed.patients, num_resamples, generator)
    return SecondReader(
        num_lesions=len(labels),
        num_malignant=int(labels.sum()),
        num_left_out=int((~is_assessed).sum()),
        disagreement=shares[_DISAGREEMENT],
        referral_level=DEFAULT_LEVEL,
        referred=shares.get(_REFERRED),
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


def _calls(labels: Calls, reader: Calls, network: Calls) -> dict[ReadingRule, Calls]:
    return {
        ReadingRule.READER: reader,
        ReadingRule.NETWORK: network,
        ReadingRule.EITHER: reader | network,
        ReadingRule.BOTH: reader & network,
        ReadingRule.ARBITRATION: np.where(reader == network, reader, labels),
    }


def _ratios(labels: Calls, calls: Mapping[ReadingRule, Calls]) -> dict[str, Ratio]:
    malignant, benign = labels.astype(float), (~labels).astype(float)
    reader = calls[ReadingRule.READER].astype(float)
    disagreed = np.abs(reader - calls[ReadingRule.NETWORK])
    found = {_DISAGREEMENT: Ratio(above=disagreed, below=np.ones(len(labels)))}
    for rule, made in calls.items():
        called = made.astype(float)
        shares = (called, 1 - called, called - reader, reader - called)
        for name, above, below in zip(_RULE_SHARES, shares, (malignant, benign) * 2, strict=True):
            found[f"{rule} {name}"] = Ratio(above=above * below, below=below, is_difference=name.endswith("_gain"))
    return found
