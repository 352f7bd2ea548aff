"""Numbers as report and terminal print them: fixed decimals, and a dash where there is none."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

from shared_model.metrics.intervals import ConfidenceInterval

MISSING = "-"


def format_number(value: float | None, digits: int = 3) -> str:
    """Return the number with ``digits`` decimals, a dash for None.

    >>> format_number(0.8514), format_number(None)
    ('0.851', '-')
    """
    return MISSING if value is None else f"{value:.{digits}f}"


def format_price(epsilon: float | None) -> str:
    """Return an epsilon rounded up to two decimals, as nobody may be told less than was spent.

    >>> format_price(1.001), format_price(None)
    ('1.01', 'unbounded')
    """
    return "unbounded" if epsilon is None else str(Decimal(epsilon).quantize(Decimal("0.01"), ROUND_CEILING))


def format_interval(interval: ConfidenceInterval | None, digits: int = 3) -> str:
    """Return both ends with ``digits`` decimals, a dash for None.

    >>> format_interval(ConfidenceInterval(low=0.7, high=0.85))
    '0.700 to 0.850'
    """
    return MISSING if interval is None else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def in_words(rounds: Sequence[int]) -> str:
    """Return which rounds, with runs of them in short.

    >>> in_words([3])
    'round 3'
    >>> in_words([1, 2, 3, 7])
    'rounds 1 to 3, 7'
    """
    parts: list[str] = []
    for number in rounds:
        if parts and number - 1 in rounds:
            parts[-1] = f"{parts[-1].split(' to ')[0]} to {number}"
        else:
            parts.append(str(number))
    return f"round{'s' if len(rounds) > 1 else ''} {', '.join(parts)}"
