"""Figures of merit as they stand in the results: a value and its interval."""

from typing import Annotated

from annotated_types import Ge

from shared_model.config.bounds import Fraction, Interval, Text
from shared_model.system.checked import checked, require

Size = Annotated[int, Ge(0)]


@checked(error=ValueError)
class Estimate:
    """The estimate of one figure of merit, such as AUROC, with its interval."""

    name: Text
    """A key of ``server.evaluation.estimates.ESTIMATE_LABELS``."""
    value: Fraction | None
    """Null where it is not defined, for instance a PPV where nothing is called malignant."""
    interval: Interval | None
    """95 % over patients; null with ``value``, where resamples are too often undefined, and for site histograms."""

    def __post_init__(self) -> None:
        require(self.interval is None or self.value is not None, "only with a value", interval=self.interval)


def shown(estimate: Estimate | None, digits: int = 3) -> str:
    """Return ``0.851 (0.796 to 0.899)``, or a dash where there is no value."""
    if estimate is None or estimate.value is None:
        return "-"
    between = ""
    if estimate.interval is not None:
        between = f" ({estimate.interval.low:.{digits}f} to {estimate.interval.high:.{digits}f})"
    return f"{estimate.value:.{digits}f}{between}"
