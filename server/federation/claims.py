"""Whether what a site says beside its update can be so: the size of its cohort, its noise, the price of the run.

All of it is public and known before: the size is a constant of the site's policy; noise and price follow from it and
from the configuration, which the server has too. So a reply that says otherwise comes from other code, from a ledger
that lost releases, or from somebody who lies.
"""

import dataclasses
import math
from bisect import bisect_left

from server.federation.checkpoints import SiteState
from server.federation.honest_lengths import plan_for
from shared_model.errors import PrivacyError, ProtocolError
from shared_model.messages import PrivacySpent, Request, TrainReply
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.plan import PrivacyPlan

_TOLERANCE = 1e-6
"""Relative: sites add the same steps up in another order, and may compute on another machine."""


def check_claims(reply: TrainReply, request: Request, before: SiteState | None) -> None:
    """Check the claims of a valid reply against the plan of the run and against what the site claimed before.

    Args:
        reply: private exactly if the configuration is.
        request: that it answers.
        before: what the site claimed with its last reply of the run, None for the first.

    Raises:
        ProtocolError: a claim cannot be so; the message says which, what was expected, and what to look for.
    """
    size = reply.num_patients_declared
    if before is not None and size != before.num_patients_declared:
        raise ProtocolError(
            f"Expected site {reply.site} to declare {before.num_patients_declared} patients as before, got {size}; the "
            "size is a constant of its policy."
        )
    if reply.privacy is None:
        return
    try:
        plan = plan_for(request.config, size)
    except PrivacyError as error:
        raise ProtocolError(f"Site {reply.site} declares {size} patients: {error}") from error
    for name in ("delta", "noise_multiplier"):
        claimed, expected = getattr(reply.privacy, name), getattr(plan, name)
        if not _is_close(claimed, expected):
            raise ProtocolError(f"Expected site {reply.site} to train with {name}={expected:g}, got {claimed:g}.")
    _check_price(reply.site, reply.privacy, plan, request.server_round, before)


def _check_price(
    site: str, spent: PrivacySpent, plan: PrivacyPlan, server_round: int, before: SiteState | None
) -> None:
    """Check that the price is that of releases that the site can have made, of mean, rounds and histogram."""
    possible = _possible_prices(plan, server_round, None if before is None else before.privacy)
    least = min((prices.epsilon(prices.least_rounds) for prices in possible), default=math.inf)
    most = max((prices.epsilon(prices.most_rounds) for prices in possible), default=math.inf)
    if not least * (1 - _TOLERANCE) <= spent.epsilon <= most * (1 + _TOLERANCE):
        raise ProtocolError(
            f"Expected site {site} to name a price of the run from epsilon {least:.6g} to {most:.6g}, got "
            f"{spent.epsilon:.6g}: its ledger has lost releases of this run, or has made some for somebody else."
        )
    nearest = [prices.epsilon(prices.num_rounds(spent.epsilon)) for prices in possible]
    if not any(_is_close(spent.epsilon, price) for price in nearest):
        raise ProtocolError(
            f"Expected site {site} to name the price of whole rounds, such as epsilon {nearest[0]:.6g}, got "
            f"{spent.epsilon:.6g}."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Prices:
    """Prices of a run by its number of rounds of training, with or without the releases before and after them."""

    plan: PrivacyPlan
    has_mean: bool
    has_histogram: bool
    least_rounds: int
    most_rounds: int

    def epsilon(self, num_rounds: int) -> float:
        """Return the price after ``num_rounds`` rounds."""
        parts = self.plan.released(has_mean=self.has_mean, num_rounds=num_rounds, has_histogram=self.has_histogram)
        return epsilon(parts, self.plan.delta)

    def num_rounds(self, price: float) -> int:
        """Return the smallest number of rounds, of those that there may be, that costs ``price``, up to rounding."""
        least = price * (1 - _TOLERANCE)
        rounds = range(self.least_rounds, self.most_rounds)
        return self.least_rounds + bisect_left(rounds, least, key=self.epsilon)


def _possible_prices(plan: PrivacyPlan, server_round: int, before: PrivacySpent | None) -> list[_Prices]:
    """Return the prices that a reply in ``server_round`` can name: those of a site with the mean, and of one without.

    A site that was away has released less. A site counts every release that it has reserved for the run, also one whose
    reply was lost on its way: each round that was asked for may be one release, and this reply is one more.
    """
    is_mean, is_histogram = server_round == 0, server_round > plan.num_rounds
    num_asked = min(server_round, plan.num_rounds)
    if is_mean:
        return [_Prices(plan=plan, has_mean=True, has_histogram=False, least_rounds=0, most_rounds=0)]
    possible = []
    for has_mean in (False,) if plan.mean_noise_multiplier is None else (True, False):
        trained = _Prices(plan=plan, has_mean=has_mean, has_histogram=False, least_rounds=0, most_rounds=num_asked)
        num_before = 0
        if before is not None:
            num_before = trained.num_rounds(before.epsilon)
            if not _is_close(trained.epsilon(num_before), before.epsilon):
                continue
        least = num_before if is_histogram else min(num_before + 1, num_asked)
        possible.append(dataclasses.replace(trained, has_histogram=is_histogram, least_rounds=least))
    return possible


def _is_close(claimed: float, expected: float) -> bool:
    return math.isclose(claimed, expected, rel_tol=_TOLERANCE)
