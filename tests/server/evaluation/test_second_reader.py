"""Second reader: by hand, against a count over rows, and what must not depend on what."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from server.evaluation.conformal_coverage import cross_fitted_labels
from server.evaluation.predictions import UNKNOWN, Predictions
from server.evaluation.second_reader import ReadingRule, second_reader


def predictions(rows):
    """Rows of (patient, label, score, assessment)."""
    patients, labels, scores, assessments = zip(*rows, strict=True)
    return Predictions(
        labels=np.array(labels),
        scores=np.array(scores, dtype=float),
        patients=np.array(patients),
        attributes={"assessment": tuple(assessments)},
    )


BY_HAND = [
    (1, 1, 0.9, "5"),  # both find it
    (1, 1, 0.2, "4"),  # the reader alone
    (2, 1, 0.8, "3"),  # the network alone
    (3, 1, 0.1, "2"),  # neither
    (4, 0, 0.7, "4"),  # two false alarms
    (5, 0, 0.6, "3"),  # one, of the network
    (6, 0, 0.1, "1"),
    (7, 0, 0.1, "2"),
    (8, 1, 0.9, UNKNOWN),
]


def figures(found):
    return {entry.rule: entry for entry in found.rules}


def test_by_hand():
    found = second_reader(predictions(BY_HAND), 0.5, num_resamples=50, seed=0)
    assert (found.num_lesions, found.num_malignant, found.num_left_out) == (8, 4, 1)
    assert found.disagreement.value == 3 / 8
    rates = {rule: (entry.sensitivity.value, entry.specificity.value) for rule, entry in figures(found).items()}
    assert rates == {
        ReadingRule.READER: (0.5, 0.75),
        ReadingRule.NETWORK: (0.5, 0.5),
        ReadingRule.EITHER: (0.75, 0.5),
        ReadingRule.BOTH: (0.25, 0.75),
        ReadingRule.ARBITRATION: (0.75, 0.75),
    }
    either = figures(found)[ReadingRule.EITHER]
    assert (either.sensitivity_gain.value, either.specificity_gain.value) == (0.25, -0.25)
    assert (either.missed, either.false_alarms) == (1, 2)


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 1, 0.9, UNKNOWN), (2, 0, 0.1, "not stated")],
        [(1, 1, 0.9, "4"), (2, 0, 0.1, UNKNOWN)],
        [(1, 1, 0.9, "0"), (2, 0, 0.1, "2")],
    ],
)
def test_lesions_of_one_class_or_without_assessment_give_none(rows):
    assert second_reader(predictions(rows), 0.5, num_resamples=10, seed=0) is None


def test_without_the_attribute_there_is_none():
    plain = Predictions(labels=np.array([0, 1]), scores=np.array([0.1, 0.9]), patients=np.array([1, 2]), attributes={})
    assert second_reader(plain, 0.5, num_resamples=10, seed=0) is None


rows = st.tuples(st.integers(0, 9), st.integers(0, 1), st.floats(0, 1), st.sampled_from(["1", "3", "4", "5", UNKNOWN]))


@given(st.lists(rows, min_size=2, max_size=60))
def test_either_finds_most_and_both_alarms_least_whatever_the_lesions(rows):
    found = second_reader(predictions(rows), 0.5, num_resamples=5, seed=0)
    assessed = [row for row in rows if row[3] != UNKNOWN]
    if len({label for _, label, _, _ in assessed}) < 2:
        assert found is None
        return
    by_rule = figures(found)
    for one in (ReadingRule.READER, ReadingRule.NETWORK):
        assert by_rule[ReadingRule.BOTH].missed >= by_rule[one].missed >= by_rule[ReadingRule.EITHER].missed
        assert by_rule[ReadingRule.BOTH].false_alarms <= by_rule[one].false_alarms
    assert by_rule[ReadingRule.ARBITRATION].missed == by_rule[ReadingRule.EITHER].missed
    assert by_rule[ReadingRule.ARBITRATION].false_alarms == by_rule[ReadingRule.BOTH].false_alarms
    for entry in found.rules:
        malignant = [row for row in assessed if row[1]]
        assert entry.sensitivity.value == pytest.approx(1 - entry.missed / len(malignant))


def with_referral(seed=0, num_patients=140):
    """A reader and a network that are right more often than not; every seventh lesion has no assessment."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_patients) % 2
    scores = 1 / (1 + np.exp(-generator.normal(1.5 * (labels - 0.5))))
    is_called = generator.uniform(size=num_patients) < np.where(labels, 0.9, 0.3)
    assessments = np.where(is_called, "4", "2").tolist()
    return [
        (row, int(labels[row]), float(scores[row]), UNKNOWN if row % 7 == 0 else assessments[row])
        for row in range(num_patients)
    ]


class TestReferral:
    def test_the_network_decides_where_one_label_is_left_and_the_reader_elsewhere(self):
        rows = with_referral()
        found = second_reader(predictions(rows), 0.5, num_resamples=20, seed=0)
        possible = cross_fitted_labels(predictions(rows), level=found.referral_level, seed=0)
        missed = false_alarms = referred = assessed = 0
        for row, (_, label, _, assessment) in enumerate(rows):
            if assessment == UNKNOWN:
                continue
            assessed += 1
            call = assessment == "4"
            if possible.has_benign[row] == possible.has_malignant[row]:
                referred += 1
            else:
                call = possible.has_malignant[row]
            missed += label == 1 and not call
            false_alarms += label == 0 and call
        entry = figures(found)[ReadingRule.REFERRAL]
        assert (entry.missed, entry.false_alarms) == (missed, false_alarms)
        assert found.referred.value == pytest.approx(referred / assessed)
        assert 0.05 < found.referred.value < 0.95

    @given(st.integers(0, 200))
    def test_it_is_wrong_only_where_the_reader_or_the_network_is(self, seed):
        rows = with_referral(seed)
        found = second_reader(predictions(rows), 0.5, num_resamples=2, seed=0)
        possible = cross_fitted_labels(predictions(rows), level=found.referral_level, seed=0)
        # The network's own calls: the label that is left, and the reader's where none or both are.
        either_wrong = both_wrong = 0
        for row, (_, label, _, assessment) in enumerate(rows):
            if assessment != UNKNOWN:
                reader = (assessment == "4") != label
                network = possible.is_single[row] and possible.has_malignant[row] != label
                either_wrong += reader or network
                both_wrong += reader and (network or not possible.is_single[row])
        entry = figures(found)[ReadingRule.REFERRAL]
        assert both_wrong <= entry.missed + entry.false_alarms <= either_wrong

    def test_too_few_patients_leave_it_out(self):
        found = second_reader(predictions(BY_HAND), 0.5, num_resamples=5, seed=0)
        assert found.referred is None
        assert ReadingRule.REFERRAL not in figures(found)


def test_a_share_of_all_is_not_sure_for_all():
    rows = [(patient, patient % 2, 0.9 if patient % 2 else 0.1, "4" if patient % 2 else "2") for patient in range(40)]
    # Every lesion twice: as sure as with 20 patients, not as with 40 lesions.
    found = second_reader(predictions(rows * 2), 0.5, num_resamples=50, seed=0)
    for entry in found.rules:
        assert entry.sensitivity.value == 1
        assert entry.sensitivity.interval.low == pytest.approx(beta.ppf(0.025, 20, 1))
        assert entry.sensitivity.interval.high == 1
    assert found.disagreement.interval.low == 0
    assert found.disagreement.interval.high == pytest.approx(beta.ppf(0.975, 1, 40))


def test_intervals_draw_patients_and_not_lesions():
    generator = np.random.default_rng(0)
    many = [
        (patient, label, score, assessment)
        for patient in range(60)
        for label, score, assessment in [(patient % 2, generator.uniform(), generator.choice(["2", "4"]))]
    ]
    once = second_reader(predictions(many), 0.5, num_resamples=400, seed=0)
    # Each lesion ten times over, of the same patient: nothing is known that was not known before.
    again = second_reader(predictions(many * 10), 0.5, num_resamples=400, seed=0)
    for first, second in zip(once.rules, again.rules, strict=True):
        assert first.sensitivity.interval == second.sensitivity.interval
    width = once.rules[0].sensitivity.interval.high - once.rules[0].sensitivity.interval.low
    # 1.96 standard errors of a share near one half of 30 lesions, to both sides.
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 30), rel=0.25)
