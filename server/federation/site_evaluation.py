"""The histograms of what sites scored themselves: one of each site, or with secure sums only their sum."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import MessageType
from flwr.serverapp import Grid

from server.evaluation.site_histograms import sum_histograms
from server.federation import exchange
from server.federation.secure_sums import SumOfSites, secure_sum
from shared_model.config.choices import EvaluationPrivacy
from shared_model.messages import EvaluateReply, Histogram, Request, TrainReply
from shared_model.messages.sum_parts import evaluation_sum_round
from shared_model.messages.types import CLASSES, ROLES
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.secure_sum.sum_grid import MOST_EVALUATED


@dataclass(frozen=True, kw_only=True)
class SiteEvaluation:
    """What came of asking the sites for score histograms."""

    test: Histogram | None = None
    """Over all sites; None where nobody was asked."""
    validation: Histogram | None = None
    tests: Mapping[str, Histogram] = field(default_factory=dict)
    """By site; empty with secure sums."""
    replies: tuple[TrainReply | EvaluateReply, ...] = ()
    """For what they show of the sites' ledgers."""
    failures: tuple[str, ...] = ()


def evaluate_at_sites(grid: Grid, request: Request, nodes: Sequence[int]) -> SiteEvaluation:
    """Ask the sites for score histograms if this is a round in which they score their own lesions.

    Exact histograms are asked for every round. Noisy ones cost privacy, so they are asked for once, after the last.

    Raises:
        RoundError: too few valid replies.
    """
    config = request.config
    privacy, is_last = config.evaluation.privacy, request.server_round == config.training.num_rounds
    if privacy is EvaluationPrivacy.NONE or (privacy is EvaluationPrivacy.DP and not is_last):
        return SiteEvaluation()
    if config.federation.secure_sum:
        return _of_sum(grid, request, nodes)
    found = exchange.evaluate(grid, request, nodes)
    return SiteEvaluation(
        test=sum_histograms([reply.test for reply in found.replies]),
        validation=sum_histograms([reply.validation for reply in found.replies]),
        tests={reply.site: reply.test for reply in found.replies},
        replies=found.replies,
        failures=found.failures,
    )


def _of_sum(grid: Grid, request: Request, nodes: Sequence[int]) -> SiteEvaluation:
    evaluation = request.config.evaluation
    what = SumOfSites(
        message_type=MessageType.EVALUATE,
        sensitivity=1.0,
        noise_multiplier=evaluation_noise(evaluation),
        num_values=len(ROLES) * len(CLASSES) * evaluation.bins,
        most_patients=lambda _: MOST_EVALUATED,
    )
    asked = dataclasses.replace(request, server_round=evaluation_sum_round(request.config))
    opened = secure_sum(grid, asked, nodes, what, check=lambda _: None)
    parts = np.split(opened.total, len(ROLES) * len(CLASSES))
    test, validation = (
        PatientHistogram(noise_std=opened.noise_std, **dict(zip(CLASSES, both, strict=True)))
        for both in (parts[: len(CLASSES)], parts[len(CLASSES) :])
    )
    return SiteEvaluation(
        test=test, validation=validation, replies=opened.replies.replies, failures=opened.replies.failures
    )
