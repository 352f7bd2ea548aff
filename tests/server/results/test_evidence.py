"""Levels and groups find their estimates by name, and their counts agree with one another."""

import dataclasses

import pytest

from server.results.estimate import Estimate
from server.results.evidence import Evidence, GroupResult, Level, LevelResult

AUROC = Estimate(name="auroc", value=0.8, interval=None)
PPV = Estimate(name="ppv", value=None, interval=None)
LESIONS = LevelResult(
    level=Level.LESION,
    num_units=10,
    num_malignant=4,
    auroc_interval_delong=None,
    tp=3,
    fp=2,
    tn=4,
    fn=1,
    figures=(AUROC, PPV),
)
GROUP = GroupResult(
    attribute="view", value="CC", num_lesions=5, num_malignant=2, num_patients=4, is_small=True, figures=(AUROC,)
)
EVIDENCE = Evidence(prevalence=0.01, levels=(LESIONS,), groups=(GROUP,))


def test_estimates_are_found_by_name():
    assert LESIONS.estimate("auroc") is AUROC
    assert LESIONS.estimate("ppv") is PPV
    assert LESIONS.estimate("npv") is None
    assert GROUP.estimate("auroc") is AUROC
    assert GROUP.estimate("ppv") is None


def test_levels_are_found_by_what_they_count():
    patients = dataclasses.replace(LESIONS, level=Level.PATIENT)
    both = dataclasses.replace(EVIDENCE, levels=(LESIONS, patients))
    assert both.level(Level.PATIENT) is patients
    assert both.level(Level.BREAST) is None


@pytest.mark.parametrize(
    ("valid", "changes", "message"),
    [
        (LESIONS, {"num_malignant": 11}, "num_malignant=11 <= num_units=10"),
        (LESIONS, {"num_units": 11}, "num_units=11 to be the sum of tp, fp, tn and fn"),
        (LESIONS, {"tp": None}, "num_units=10 to be the sum of tp, fp, tn and fn"),
        (LESIONS, {"fn": -1}, "fn=-1 >= 0"),
        (LESIONS, {"figures": (AUROC, AUROC)}, "figures=.* to have different names"),
        (GROUP, {"num_malignant": 6}, "num_malignant=6 <= num_lesions=5"),
        (GROUP, {"num_patients": 6}, "num_patients=6 <= num_lesions=5"),
        (GROUP, {"attribute": ""}, "attribute='' not to be empty"),
        (EVIDENCE, {"prevalence": 0.0}, r"prevalence=0\.0 "),
        (EVIDENCE, {"prevalence": 1.0}, r"prevalence=1\.0 "),
    ],
)
def test_counts_that_cannot_be_are_refused(valid, changes, message):
    with pytest.raises(ValueError, match=rf"^Expected {type(valid).__name__}\.({message})"):
        dataclasses.replace(valid, **changes)


def test_without_a_threshold_there_are_no_calls():
    bare = dataclasses.replace(LESIONS, tp=None, fp=None, tn=None, fn=None)
    assert (bare.tp, bare.num_units) == (None, 10)
