"""Hypothesis strategies for the lesions of patients, and the histograms that tests make of them."""

import numpy as np
from hypothesis import strategies as st

from shared_model.privacy.patient_histogram import PatientHistogram
from tests.scored_lesions import any_scores

lesion = st.tuples(st.integers(0, 1), any_scores)
one_patient = st.lists(lesion, min_size=1, max_size=24)
cohorts = st.lists(one_patient, max_size=12)
bin_numbers = st.integers(1, 30)


def columns(cohort):
    rows = [(label, score, patient) for patient, lesions in enumerate(cohort) for label, score in lesions]
    labels, scores, patients = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(labels, dtype=int), np.array(scores, dtype=float), np.array(patients, dtype=int)


def weighted(cohort, num_bins):
    return PatientHistogram.from_scores(*columns(cohort), num_bins)


def histogram(negatives, positives, noise_std=0.0):
    return PatientHistogram(
        negatives=np.array(negatives, dtype=np.float64),
        positives=np.array(positives, dtype=np.float64),
        noise_std=noise_std,
    )
