"""A release in a secure sum: with this site's share of the noise, rounded to a grid, and masked.

Formal guarantee: the sum over any list of sites that is opened has the noise of the plan at least, and so the price
that the ledger charges, for whoever sees sums alone (``shared_model.secure_sum.grid`` says why rounding costs nothing).
Whoever breaks the aggregation, or works with all other sites, sees this site's release with its own share of the noise:
that price is charged beside the other (``own_share`` of the ledger's entry).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from client.data.splits import Role
from client.local_release import is_among, noise_for, plan_of, reserve, training_release, training_reply
from client.privacy.ledger_entries import Purpose, Reserved
from client.privacy.ledger_reservation import StoredReply
from client.secure_sum.answers import join_round
from client.secure_sum.roster_check import checked_roster, own_identity
from client.site import Site
from client.training.dp_sgd import ROUNDING_MARGIN
from client.training.noise import NoiseGenerator
from shared_model.data.lesions import Lesions
from shared_model.errors import PrivacyError, ProtocolError
from shared_model.messages import Request, request_digest
from shared_model.messages.stored import masked_reply_from_bytes, masked_reply_to_bytes
from shared_model.messages.sum_replies import MaskedReply
from shared_model.metrics.counts import FloatArray
from shared_model.privacy.mechanism import Mechanism
from shared_model.privacy.plan import PrivacyPlan
from shared_model.secure_sum.masks import mask
from shared_model.secure_sum.participants import sign_masked
from shared_model.secure_sum.roster import Roster
from shared_model.secure_sum.sum_grid import most_training_patients, sum_grid

_VALUE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class SumRelease:
    """What a site adds up over its patients, and at which price."""

    entry: Reserved
    """For the ledger: the mechanism of the sum that is opened, and that of this site's own share. A patient moves the
    sum by at most its ``max_grad_norm``, in L2 norm."""
    share_std: float
    """Standard deviation of this site's share of the noise."""
    noise: str
    """Names the noise."""
    most_patients: Callable[[Roster], int]
    """In the sum over all sites of the run."""
    num_values: int
    roles: tuple[Role, ...]
    """Of the patients."""
    total: Callable[[Mapping[Role, Lesions], NoiseGenerator], FloatArray]
    """The exact sum ``(num_values,)``; the generator draws who takes part, where not all do."""
    plan: PrivacyPlan | None
    """Of the run, for training patients."""


def release_masked(request: Request, site: Site, release: SumRelease) -> MaskedReply:
    """Return ``release`` of this site's patients, with its share of the noise, masked.

    Raises:
        PrivacyError: the promise cannot be kept, or policy, budget or ledger forbid it.
        ProtocolError: the sites that take part are not those that this site can form a sum with.
        DataError: the site's files cannot be read.
        TimeLimitError: it took too long; the same request goes on where this one stopped, at no new cost.
    """
    roster, share_std = checked_roster(request, site), release.share_std
    try:
        grid = sum_grid(
            most_patients=release.most_patients(roster),
            num_sites=len(roster.sites),
            sensitivity=release.entry.max_grad_norm,
            share_std=share_std,
        )
    except ValueError as error:
        raise PrivacyError(f"The noise of a secure sum: {error}") from error
    # Before the round is settled, so that a refusal changes nothing.
    site.ledger.require_affordable(release.entry, site.policy.limits)
    participants, seeds = join_round(request, site, roster)
    if seeds is not None:
        # Whatever masking may refuse it refuses here, before anything is charged: no value decides it.
        mask(np.zeros(0, np.uint32), seeds, participants, site.name)
    if seeds is None and not _was_answered(request, site, release.entry.purpose):
        raise ProtocolError("Expected the release of a round to be asked for before the round goes on.")
    granted = reserve(site, release.entry, *release.roles, reply_bytes=_VALUE_BYTES * release.num_values)
    if isinstance(granted, StoredReply):
        return masked_reply_from_bytes(granted.content)
    if seeds is None:
        raise ProtocolError("Expected the reply of a round that has gone on to be kept still.")
    data, takes_part = site.data, is_among(granted.members, site)
    lesions = {role: data.lesions(role, takes_part, deadline=site.deadline) for role in release.roles}
    noise = noise_for(granted, request, site.name, release.noise, lesions.values())
    total = release.total(lesions, noise)
    noised = total + noise.normal(total.shape, std=share_std * (1 + ROUNDING_MARGIN), dtype=torch.float64).numpy()
    values = mask(grid.to_grid(noised), seeds, participants, site.name)
    site.deadline.require()
    reply = MaskedReply(
        facts=training_reply(request, site, {}, plan=release.plan, granted=granted),
        values=values,
        signature=sign_masked(own_identity(site), participants, site.name),
    )
    site.ledger.commit(granted, masked_reply_to_bytes(reply))
    return reply


def training_sum(  # noqa: PLR0913, each is a part of the release
    request: Request,
    site: Site,
    *,
    noise: str,
    mechanism: Callable[[PrivacyPlan], Mechanism],
    sensitivity: float,
    num_values: int,
    total: Callable[[Lesions, NoiseGenerator, PrivacyPlan], FloatArray],
) -> MaskedReply:
    """Return a sum over this site's training patients, as ``release_masked`` does; the plan of the run prices it."""
    plan = plan_of(request, site)
    released = mechanism(plan)
    release = SumRelease(
        entry=training_release(request, plan, released, max_grad_norm=sensitivity),
        share_std=plan.share(released.noise_multiplier) * sensitivity,
        noise=noise,
        most_patients=most_training_patients,
        num_values=num_values,
        roles=(Role.TRAIN,),
        total=lambda lesions, generator: total(lesions[Role.TRAIN], generator, plan),
        plan=plan,
    )
    return release_masked(request, site, release)


def _was_answered(request: Request, site: Site, purpose: Purpose) -> bool:
    history = site.ledger.history()
    sequence = history.reserved(purpose, request_digest(request))
    return sequence is not None and history.committed(sequence) is not None
