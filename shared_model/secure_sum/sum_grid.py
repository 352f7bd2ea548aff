"""The grid of a round's values: the same at all sites, from public sizes alone, wide enough for every honest sum."""

from shared_model.secure_sum.grid import Grid, require_fine
from shared_model.secure_sum.roster import Roster

MOST_PER_DECLARED = 2
"""Training patients for each one declared: sizes are declared rounded down to a multiple that is not above them, so
that fewer than twice as many are there."""
MOST_EVALUATED = 2**20
"""Test and validation patients of all sites together; nobody declares them."""
_STDS = 10.0
"""No noise is longer: the generator's numbers end at 8.6 standard deviations."""


def most_training_patients(roster: Roster) -> int:
    """Return how many training patients the sites of ``roster`` have together, at most."""
    return MOST_PER_DECLARED * roster.num_patients


def sum_grid(*, most_patients: int, num_sites: int, sensitivity: float, share_std: float) -> Grid:
    """Return the finest grid on which the sum over all sites does not wrap around.

    Args:
        most_patients: in the sum.
        num_sites: of the run.
        sensitivity: the most that a patient adds, in any value.
        share_std: standard deviation of a site's share of the noise.

    Raises:
        ValueError: the grid is too coarse for so little noise.
    """
    grid = Grid.covering(most_patients * sensitivity + num_sites * _STDS * share_std)
    require_fine(grid.step, share_std)
    return grid
