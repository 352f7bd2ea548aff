"""Conformal sets: coverage of each class whatever the scores, and who is left in them."""

import numpy as np
import pytest

from shared_model.release.conformal import conformal_set


@pytest.mark.parametrize("level", [0.7, 0.9])
def test_each_class_is_covered_at_the_level_even_by_useless_and_inverted_scores(level):
    generator = np.random.default_rng(0)
    for separation in (2.0, 0.0, -2.0):
        covered = {0: 0, 1: 0}
        for _ in range(1500):
            benign, malignant = generator.normal(size=31), generator.normal(loc=separation, size=20)
            sets = [
                conformal_set(score, benign_scores=benign[1:], malignant_scores=malignant[1:], level=level)
                for score in (benign[0], malignant[0])
            ]
            covered[0] += sets[0].has_benign
            covered[1] += sets[1].has_malignant
        # Three standard errors below; at most 1 / (n + 1) above, as the theorem says.
        for label, count in covered.items():
            assert level - 0.036 < count / 1500 < level + 0.036 + 1 / 20, (separation, label, count)


def test_by_hand():
    # Of the benign at 0.1 to 0.4 one is as strange as 0.35, so p = 2 / 5; of the malignant none is, so p = 1 / 5.
    found = conformal_set(0.35, benign_scores=[0.1, 0.2, 0.3, 0.4], malignant_scores=[0.6, 0.7, 0.8, 0.9], level=0.7)
    assert (found.has_benign, found.has_malignant, found.is_single) == (True, False, True)


def test_what_fits_both_or_neither_is_no_single_label():
    both = conformal_set(0.5, benign_scores=[0.1, 0.9], malignant_scores=[0.1, 0.9], level=0.5)
    neither = conformal_set(0.5, benign_scores=[0.1] * 9, malignant_scores=[0.9] * 9, level=0.8)
    assert (both.has_benign, both.has_malignant, both.is_single) == (True, True, False)
    assert (neither.has_benign, neither.has_malignant, neither.is_single) == (False, False, False)
