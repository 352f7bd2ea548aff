"""Whether what a site says beside its update can be so: the size of its cohort, its noise, the price of the run.

All of it is public and known before: the size is a constant of the site's policy; noise and price follow from it and
from the configuration, which the server has too. So a reply that says otherwise comes from other code, from a ledger
that lost releases, or from somebody who lies.
"""

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

    A site counts every release that it has reserved for the run, also one whose reply was lost on its way: each round
    that was asked for may be one release, and this reply is one more than there were at the last.

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
        plan = plan_for(request.config.privacy, request.config.training, size)
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
    """Check that the price is that of a number of releases that the site can have made."""
    num_before = 0
    if before is not None and before.privacy is not None:
        num_before = _num_rounds(before.privacy.epsilon, plan, server_round)
    least, most = _price(plan, min(num_before + 1, server_round)), _price(plan, server_round)
    if not least * (1 - _TOLERANCE) <= spent.epsilon <= most * (1 + _TOLERANCE):
        raise ProtocolError(
            f"Expected site {site} to name a price of the run from epsilon {least:.6g} to {most:.6g}, got "
            f"{spent.epsilon:.6g}: its ledger has lost releases of this run, or has made some for somebody else."
        )
    num_rounds = _num_rounds(spent.epsilon, plan, server_round)
    expected = _price(plan, num_rounds)
    if not _is_close(spent.epsilon, expected):
        raise ProtocolError(
            f"Expected site {site} to name the price of whole rounds, such as epsilon {expected:.6g} for {num_rounds}, "
            f"got {spent.epsilon:.6g}."
        )


def _num_rounds(price: float, plan: PrivacyPlan, most: int) -> int:
    """Return the smallest number of rounds, from 1 to ``most``, that costs ``price``, up to rounding."""
    least = price * (1 - _TOLERANCE)
    return 1 + bisect_left(range(1, most), least, key=lambda num_rounds: _price(plan, num_rounds))


def _price(plan: PrivacyPlan, num_rounds: int) -> float:
    return epsilon(plan.mechanism(num_rounds), plan.delta)


def _is_close(claimed: float, expected: float) -> bool:
    return math.isclose(claimed, expected, rel_tol=_TOLERANCE)
