"""What the requests of a secure sum carry; ``docs/secure-sums.md`` tells the protocol from beginning to end."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared_model.config.experiment import ExperimentConfig
from shared_model.secure_sum.roster import Advert
from shared_model.secure_sum.round_keys import Offer

KEYS, SHARES, AGREE, UNMASK = "train.keys", "train.shares", "train.agree", "train.unmask"
"""Flower's types of the messages around a secure sum: once a run the sites' keys; then in every round the shares of
their masks, before the release, and after it which sites the sum is of, and the shares that open it."""


@dataclass(frozen=True, kw_only=True)
class SumParts:
    """What a request of a secure sum has beside an ordinary one; later messages of a round have more of it."""

    adverts: tuple[Advert, ...] = ()
    """Of all sites of the run."""
    offers: tuple[Offer, ...] = ()
    """Of the sites that take part in the round."""
    sealed: Mapping[str, bytes] = field(default_factory=dict)
    """By sender, the shares that are sealed for the site that the request goes to."""
    masked: Mapping[str, bytes] = field(default_factory=dict)
    """By site whose values arrived, what it signed with them."""
    agreed: Mapping[str, bytes] = field(default_factory=dict)
    """By site, what it signed for the list of those sites."""


def evaluation_sum_round(config: ExperimentConfig) -> int:
    """Return the round of the sum of histograms of test and validation scores: the last of a run, with its own lists.

    Rounds of training count from 1, and the one after them may have the histogram of training scores.
    """
    return config.training.num_rounds + 2
