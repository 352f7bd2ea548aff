"""The sections of the configuration that say what the server does: strategy, federation, evaluation."""

from typing import Annotated

from annotated_types import Ge, Interval

from shared_model.config.bounds import (
    Count,
    Delta,
    Epsilon,
    Fraction,
    Momentum,
    NotNegative,
    Positive,
    PositiveFraction,
    SiteName,
)
from shared_model.config.choices import (
    Aggregation,
    Backend,
    EvaluationPrivacy,
    Partition,
    StrategyName,
    ThresholdFrom,
    UpdateNorm,
)
from shared_model.system.checked import DISTINCT, NOT_EMPTY, checked, require


@checked(key="strategy")
class StrategyConfig:
    """How the server aggregates; see ``server.federation.server_optimizer``."""

    name: StrategyName
    server_learning_rate: Positive
    momentum: Momentum
    second_momentum: Momentum
    adaptivity: Positive
    proximal_mu: NotNegative
    average_last_fraction: Fraction
    """The final parameters are the mean of the iterates of this last share of the rounds; 0 keeps the last one."""
    aggregation: Aggregation
    max_site_share: Annotated[float, Ge(1)]
    """With ``guarded``: no site weighs more than so many equal shares of a round; 1 weighs all alike."""
    max_site_weight: PositiveFraction
    """With ``mean``: no site weighs more than this share of a round."""
    num_hostile: Annotated[int, Ge(0)]
    """Hostile sites that ``trimmed_mean`` and ``krum`` are to bear."""
    max_update_norm: Positive | UpdateNorm | None
    """Longer updates are scaled down to this length; null sets no bound. ``auto`` is the length that no honest update
    exceeds (``server.federation.honest_lengths``); there is none with ``privacy=off``, where a number may stand."""


@checked(key="federation")
class FederationConfig:
    """Who takes part, and how long the server waits."""

    backend: Backend
    sites: Annotated[tuple[SiteName, ...], NOT_EMPTY, DISTINCT]
    partition: Partition
    concentration: Positive
    """Dirichlet concentration of the skewed partitions; smaller is more skewed."""
    min_sites: Count
    secure_sum: bool
    """Whether the server learns only sums over ``min_sites`` or more sites; see ``shared_model.config.secure_sum``."""
    max_colluding: Annotated[int, Ge(0)]
    """Counts with ``secure_sum``: sites that may work with the server and still cannot open a sum of fewer sites."""
    round_timeout_seconds: Positive
    num_workers: Count
    """Sites that compute at the same time in a simulation."""
    ledger_dir: str
    """Folder of the simulated sites' privacy ledgers; a deployed site names its own and ignores this one."""
    site_policy: str | None
    """Policy file of the simulated sites, null for the one that allows everything; as ``ledger_dir`` otherwise."""
    node_ids: Annotated[tuple[int, ...], DISTINCT] | None
    """Flower's node of each of ``sites``, so that no site can speak for another; null in a simulation."""

    def __post_init__(self) -> None:
        num_sites = len(self.sites)
        is_distinct = len({name.casefold() for name in self.sites}) == num_sites
        require(is_distinct, "to differ by more than case", sites=list(self.sites))
        expectation = f"<= {num_sites}, the number of federation.sites: name more sites or lower it"
        require(self.min_sites <= num_sites, expectation, min_sites=self.min_sites)
        if self.secure_sum:
            self._require_openable()
        expectation = "to be null, or one node for each of federation.sites"
        require(self.node_ids is None or len(self.node_ids) == num_sites, expectation, node_ids=self.node_ids)

    @property
    def opening_threshold(self) -> int:
        """Sites that must agree before a secure sum can be opened.

        Of n sites of which C collude, floor((n + C) / 2) + 1: any two such sets share an honest site, which agrees to
        one sum of a round only (Bonawitz et al. 2017).
        """
        return (len(self.sites) + self.max_colluding) // 2 + 1

    def _require_openable(self) -> None:
        num_sites = len(self.sites)
        expectation = ">= 2 with federation.secure_sum=true: a sum over one site hides nobody"
        require(self.min_sites >= 2, expectation, min_sites=self.min_sites)
        expectation = f"<= {num_sites - 2}, the number of federation.sites without two: a sum hides one honest site "
        expectation += "only behind another"
        require(self.max_colluding <= num_sites - 2, expectation, max_colluding=self.max_colluding)
        expectation = (
            f">= {self.opening_threshold} with federation.secure_sum=true, {num_sites} sites and "
            f"federation.max_colluding={self.max_colluding}, since so many must agree to open a sum: set "
            f"federation.min_sites={self.opening_threshold}"
        )
        require(self.min_sites >= self.opening_threshold, expectation, min_sites=self.min_sites)


@checked(key="evaluation")
class EvaluationConfig:
    """How global figures are computed."""

    privacy: EvaluationPrivacy
    num_bins: Annotated[int, Interval(ge=10, le=100_000)]
    """Bins of the score histograms that sites send with ``privacy=exact``."""
    target_epsilon: Epsilon
    """With ``privacy=dp``: what one release of histograms may cost an evaluation patient."""
    delta: Delta
    """With ``privacy=dp``."""
    dp_num_bins: Annotated[int, Interval(ge=2, le=1000)]
    """Bins with ``privacy=dp``: each bin has noise of its own, so fewer are better than many."""
    training_bins: Annotated[int, Interval(ge=2, le=1000)]
    """Bins of the histogram of training patients, with noise; see ``threshold_from``."""
    threshold_from: ThresholdFrom
    target_sensitivity: PositiveFraction
    """The threshold is the highest that reaches this sensitivity on the patients of ``threshold_from``."""
    prevalence: Annotated[float, Interval(gt=0, lt=1)]
    """Share of malignant cases, where the network would be used, for which predictive values are also stated."""
    bootstrap_resamples: Annotated[int, Ge(100)]
    holdout: str | None
    """File with the server's own test lesions; null evaluates at the sites only. A CSV of the same name beside it may
    describe them: see ``server.evaluation.predictions``."""
    public: str | None
    """File with the public patients' lesions, if any."""

    @property
    def bins(self) -> int:
        """Bins of the histograms that sites send."""
        return self.dp_num_bins if self.privacy is EvaluationPrivacy.DP else self.num_bins
