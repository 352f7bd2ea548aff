"""Bounds that several fields share: of the configuration, of results, of releases and of readings."""

import re
from typing import Annotated

from annotated_types import Ge, Gt
from annotated_types import Interval as Between

from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.system.checked import NOT_EMPTY, AsList, rule

Text = Annotated[str, NOT_EMPTY]
Interval = Annotated[ConfidenceInterval, AsList()]
"""``[low, high]`` in JSON."""
UnitInterval = Annotated[Interval, rule(lambda interval: interval.low >= 0 and interval.high <= 1, "in [0, 1]")]

Fraction = Annotated[float, Between(ge=0, le=1)]
PositiveFraction = Annotated[float, Between(gt=0, le=1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Momentum = Annotated[float, Between(ge=0, lt=1)]
Share = Annotated[float, Between(ge=1e-6, le=0.4)]
"""Of a privacy budget. Less of it buys noise that float32 and histograms cannot hold: paid for, and refused."""
Epsilon = Annotated[float, Between(ge=0.01, le=1000)]
Delta = Annotated[float, Between(gt=0, lt=0.1)]
Count = Annotated[int, Ge(1)]
SiteName = Annotated[
    str, rule(re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch, "to be a name of 1 to 64 letters, digits, '-' and '_'")
]
