"""Prevalence shift: by hand, against counted cases, and the interval holds whatever both rates' intervals hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.evaluation.patient_shares import Share
from server.evaluation.prevalence_shift import what_if
from shared_model.metrics.confusion import ConfusionCounts
from shared_model.metrics.intervals import ConfidenceInterval


def share(value, low=None, high=None):
    return Share(value=value, interval=None if low is None else ConfidenceInterval(low=low, high=high))


def at(sensitivity, specificity, prevalence):
    (row,) = what_if("x", 0.5, sensitivity, specificity, (prevalence,)).rows
    return row


def test_by_hand():
    # Of 1,000 cases 10 are malignant: 9 of them are called, and 198 of the 990 benign.
    row = at(share(0.9, 0.8, 1.0), share(0.8, 0.7, 0.9), 0.01)
    assert row.ppv.value == pytest.approx(9 / (9 + 198))
    assert row.npv.value == pytest.approx(792 / 793)
    assert row.called_benign.value == pytest.approx(0.793)
    assert row.missed.value == pytest.approx(0.001)
    # Both rates at their low ends: 8 and 297 are called; at their high ends 10 and 99.
    assert row.ppv.interval.low == pytest.approx(8 / (8 + 297))
    assert row.ppv.interval.high == pytest.approx(10 / (10 + 99))
    assert row.npv.interval.low == pytest.approx(693 / 695)
    assert row.npv.interval.high == 1
    assert row.missed.interval.low == pytest.approx(0)
    assert row.missed.interval.high == pytest.approx(0.002)


counts = st.integers(1, 50)


@given(counts, counts, counts, counts)
def test_at_the_prevalence_of_the_counts_it_gives_their_predictive_values(tp, fp, tn, fn):
    calls = ConfusionCounts(tp=tp, fp=fp, tn=tn, fn=fn)
    prevalence = (tp + fn) / (tp + fp + tn + fn)
    row = at(share(calls.sensitivity), share(calls.specificity), prevalence)
    assert row.ppv.value == pytest.approx(calls.ppv())
    assert row.npv.value == pytest.approx(calls.npv())
    assert row.called_benign.value == pytest.approx((tn + fn) / (tp + fp + tn + fn))
    assert row.missed.value == pytest.approx(fn / (tp + fp + tn + fn))
    assert row.ppv.interval is None


rate = st.floats(0.01, 0.99)
pair = st.tuples(rate, rate, rate).map(sorted)


@given(pair, pair, st.floats(0.001, 0.999), st.floats(0, 1), st.floats(0, 1))
def test_the_interval_holds_what_both_intervals_hold(sensitivity, specificity, prevalence, along, across):
    (sens_low, sens, sens_high), (spec_low, spec, spec_high) = sensitivity, specificity
    row = at(share(sens, sens_low, sens_high), share(spec, spec_low, spec_high), prevalence)
    other = at(
        share(sens_low + along * (sens_high - sens_low)), share(spec_low + across * (spec_high - spec_low)), prevalence
    )
    for name in ("ppv", "npv", "called_benign", "missed"):
        interval, value = getattr(row, name).interval, getattr(other, name).value
        assert interval.low - 1e-12 <= value <= interval.high + 1e-12


def test_a_rarer_cancer_lowers_ppv_and_raises_npv():
    rows = what_if("x", 0.5, share(0.9), share(0.8), (0.001, 0.01, 0.1, 0.5)).rows
    assert [row.prevalence for row in rows] == [0.001, 0.01, 0.1, 0.5]
    ppvs, npvs = [row.ppv.value for row in rows], [row.npv.value for row in rows]
    assert ppvs == sorted(ppvs)
    assert npvs == sorted(npvs, reverse=True)


def test_where_nothing_is_called_there_is_no_predictive_value():
    assert at(share(0.0), share(1.0), 0.1).ppv is None
    assert at(share(1.0), share(0.0), 0.1).npv is None
    # Only at one corner nothing is called: then there is a value, and no interval.
    row = at(share(0.1, 0.0, 0.2), share(0.9, 0.8, 1.0), 0.1)
    assert row.ppv.value == pytest.approx(0.1)
    assert row.ppv.interval is None
