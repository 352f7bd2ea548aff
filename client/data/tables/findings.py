"""Which rows of a patient show the same finding: the same number, in the same breast, of the same kind of lesion.

Tables number the findings of a breast, and often begin again at 1 in the other one.
"""

import pandas as pd

TWO_OUTCOMES = "finding with two outcomes: its views say benign and malignant; correct label or finding_id"


def finding_names(frame: pd.DataFrame) -> "pd.Series[str]":
    """Return a name for the finding of every row, which only rows of the same finding of the same patient share.

    Args:
        frame: columns ``finding_id`` (as the table numbers findings, missing where it does not), ``lesion_id``,
            ``laterality`` and ``abnormality_type``.
    """
    side, kind = (frame[name].fillna("").astype(str) for name in ("laterality", "abnormality_type"))
    named = frame["finding_id"].astype("string") + "|" + side + "|" + kind
    return named.fillna(frame["lesion_id"].astype("string"))


def contradicting_findings(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows are of a finding that another of its rows gives another ``label``."""
    keys = ["patient_id", "finding_id"]
    is_shared = frame.duplicated(keys, keep=False)
    labels = frame[is_shared].groupby(keys, sort=False)["label"]
    contradicts = (labels.transform("min") != labels.transform("max")).reindex(frame.index, fill_value=False)
    return contradicts.astype(bool)
