"""Shares of one noise: what each of several sites adds, so that together they have as much as the sum needs."""

import dataclasses
import math
from fractions import Fraction

from shared_model.privacy.mechanism import Mechanism


def share(noise_multiplier: float, num_shares: int) -> float:
    """Return the noise multiplier of one of ``num_shares`` shares, rounded up in the last bit if need be.

    The squares of so many shares add up to that of ``noise_multiplier`` or more.
    """
    square, near = Fraction(noise_multiplier) ** 2, noise_multiplier / math.sqrt(num_shares)
    return _root_above(square / num_shares, near=near)


def own_share(mechanism: Mechanism, num_shares: int) -> Mechanism | None:
    """Return what ``mechanism`` is to whoever knows all shares of its noise but the site's own.

    That is a coordinator that breaks the sum, or works with all other sites. None where the site adds all noise itself,
    so that nobody learns more than ``mechanism`` says.
    """
    if num_shares == 1:
        return None
    return dataclasses.replace(mechanism, noise_multiplier=share(mechanism.noise_multiplier, num_shares))


def left_of(mechanism: Mechanism, num_shares: int, num_colluding: int) -> Mechanism:
    """Return what ``mechanism`` is to a coordinator that works with ``num_colluding`` of the sites in the sum.

    These know their own shares, so that ``num_shares - num_colluding`` are left; rounded down in the last bit, so that
    no price is below the true one. With none colluding it is ``mechanism`` itself.

    Raises:
        ValueError: ``num_colluding`` is not in [0, ``num_shares``).
    """
    if not 0 <= num_colluding < num_shares:
        raise ValueError(f"Expected num_colluding={num_colluding} in [0, {num_shares}).")
    if num_colluding == 0:
        return mechanism
    one, num_left = share(mechanism.noise_multiplier, num_shares), num_shares - num_colluding
    left = _root_below(Fraction(one) ** 2 * num_left, near=one * math.sqrt(num_left))
    return dataclasses.replace(mechanism, noise_multiplier=left)


def _root_above(square: Fraction, *, near: float) -> float:
    """Return the smallest float whose square is at least ``square`` > 0, searched for from ``near`` on."""
    root = near
    while Fraction(root) ** 2 >= square:
        root = math.nextafter(root, 0.0)
    while Fraction(root) ** 2 < square:
        root = math.nextafter(root, math.inf)
    return root


def _root_below(square: Fraction, *, near: float) -> float:
    """Return the largest float whose square is at most ``square`` > 0, searched for from ``near`` on."""
    root = _root_above(square, near=near)
    return root if Fraction(root) ** 2 == square else math.nextafter(root, 0.0)
