"""Which aggregator a round has: the rule and the bounds of its configuration."""

from collections.abc import Mapping

from server.federation.aggregation import Aggregator, LengthBound, RobustAggregator, WeightedMean
from server.federation.agreement import Agreement
from server.federation.guarded_mean import GuardedMean
from server.federation.honest_lengths import HonestLengths
from shared_model.config.choices import Aggregation
from shared_model.messages import Request


def new_aggregator(request: Request, agreements: Mapping[str, Agreement]) -> Aggregator:
    """Return an empty aggregator with the rule and the bounds of ``request.config.strategy``.

    Args:
        request: whose replies it is to take.
        agreements: what is known of each site from earlier rounds; empty before the first.
    """
    strategy = request.config.strategy
    lengths = HonestLengths.of_round(request.config, request.parameters)
    if strategy.aggregation is Aggregation.GUARDED:
        return GuardedMean(strategy, lengths, agreements)
    bound = LengthBound(strategy, lengths)
    if strategy.aggregation is Aggregation.MEAN:
        return WeightedMean(strategy.max_site_weight, bound)
    return RobustAggregator(strategy.aggregation, strategy.num_hostile, bound)
