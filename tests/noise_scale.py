"""Whether noise has the scale that was asked for: the chi-squared test, in one place."""

import numpy as np
from scipy import stats


def scale_p_value(values: np.ndarray, std: float) -> float:
    """Two-sided p-value of the chi-squared test that zero-mean normal values have the variance std^2."""
    upper = stats.chi2.sf((values**2).sum() / std**2, df=len(values))
    return float(2 * min(upper, 1 - upper))
