"""Bounds that several fields of the configuration share."""

import re
from typing import Annotated

from annotated_types import Ge, Gt, Interval

from shared_model.system.checked import rule

Fraction = Annotated[float, Interval(ge=0, le=1)]
PositiveFraction = Annotated[float, Interval(gt=0, le=1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Momentum = Annotated[float, Interval(ge=0, lt=1)]
Share = Annotated[float, Interval(ge=1e-6, le=0.4)]
"""Of a privacy budget. Less of it buys noise that float32 and histograms cannot hold: paid for, and refused."""
Epsilon = Annotated[float, Interval(ge=0.01, le=1000)]
Delta = Annotated[float, Interval(gt=0, lt=0.1)]
Count = Annotated[int, Ge(1)]
SiteName = Annotated[
    str, rule(re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch, "to be a name of 1 to 64 letters, digits, '-' and '_'")
]
