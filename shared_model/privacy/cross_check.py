"""Two further accountants to check the epsilon of record against.

Opacus' accountant shares no code with it; the bound by Renyi differential privacy is looser and never below it.
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache

import dp_accounting
import numpy as np
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import PRVAccountant
from scipy.integrate import IntegrationWarning

from shared_model.errors import PrivacyError
from shared_model.privacy.accounting import epsilon, merge
from shared_model.privacy.mechanism import Mechanism, require_delta

_RDP_ORDERS = (*range(2, 65), 128, 256, 512, 1024)


def epsilon_rdp(mechanisms: Mechanism | Sequence[Mechanism], delta: float) -> float:
    """Return a looser upper bound by Renyi differential privacy (Mironov et al. 2019), to check the order of magnitude.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    require_delta(delta)
    return _epsilon_rdp((mechanisms,) if isinstance(mechanisms, Mechanism) else tuple(mechanisms), delta)


@lru_cache(maxsize=256)
def _epsilon_rdp(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    # Whole orders only: for fractional ones the library sums a series that often does not converge.
    accountant = RdpAccountant(orders=_RDP_ORDERS)
    for mechanism in mechanisms:
        event = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(mechanism.sampling_rate, event), mechanism.num_steps)
    return float(accountant.get_epsilon(delta))


def epsilon_prv(mechanisms: Mechanism | Sequence[Mechanism], delta: float) -> float:
    """Return Opacus' upper bound by privacy-loss random variables (Gopi et al. 2021), a second way to ``epsilon``.

    It lies up to 0.01 above the true value, and is infinite or NaN for epsilons of several hundred, which it cannot
    compute.

    Raises:
        ValueError: ``delta`` is not in (0, 1).
    """
    require_delta(delta)
    parts = (mechanisms,) if isinstance(mechanisms, Mechanism) else tuple(mechanisms)
    return _epsilon_prv(merge(parts), delta) if parts else 0.0


@lru_cache(maxsize=256)
def _epsilon_prv(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    accountant = PRVAccountant()
    accountant.history = [(part.noise_multiplier, part.sampling_rate, part.num_steps) for part in mechanisms]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # It starts from a Renyi bound that warns if the best order is at the end of the range; the start value is fine.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        warnings.filterwarnings("ignore", category=IntegrationWarning)
        try:
            return float(accountant.get_epsilon(delta))
        except RuntimeError:
            # It compares its grid's mean with the true one, and gives up where they differ.
            return math.inf


def cross_check(mechanisms: Mechanism | Sequence[Mechanism], delta: float) -> None:
    """Compare ``epsilon`` with Opacus' independent accountant and with the bound by Renyi differential privacy.

    Raises:
        PrivacyError: Opacus' accountant differs by more than ``agreement_tolerance``, or cannot compute so large an
            epsilon; or the Renyi bound, which can only be looser, lies below.
        ValueError: ``delta`` is not in (0, 1).
    """
    price, second, upper = (price_of(mechanisms, delta) for price_of in (epsilon, epsilon_prv, epsilon_rdp))
    tolerance = agreement_tolerance(price)
    if not math.isfinite(second):
        raise PrivacyError(
            f"Expected a price that a second accountant confirms, it cannot compute one for epsilon={price:.4g}; set "
            "privacy.target_epsilon to 100 or less."
        )
    if not abs(second - price) <= tolerance:
        raise PrivacyError(
            f"Expected two accountants to agree on epsilon={price:.4f} within {tolerance:.4f}, got {second:.4f}."
        )
    if not price <= upper:
        raise PrivacyError(f"Expected epsilon={price:.4f} <= {upper:.4f}, the bound by Renyi differential privacy.")


def agreement_tolerance(price: float) -> float:
    """Return by how much the second accountant may differ from ``price``, the epsilon of record."""
    return 0.02 + 0.002 * price
