"""One noise for all hospitals, or one for each: the same patients dealt at random to ever more hospitals."""

from shared_model.config.choices import Partition
from simulations.studies.protocols import StudyRun, site_overrides

SHARED_EPSILONS = (8.0, 1.0)
NUM_SITES = (3, 10, 30)


def shared_names(num_sites: int) -> tuple[str, str]:
    """Return the names of what is compared with so many hospitals.

    >>> shared_names(10)
    ('10 hospitals, each with all noise', '10 hospitals, secure sum')
    """
    return f"{num_sites} hospitals, each with all noise", f"{num_sites} hospitals, secure sum"


def fewest_sites(num_sites: int) -> int:
    """Return of how many sites a sum is at least: a fifth of them may drop out, none of three.

    >>> [fewest_sites(count) for count in NUM_SITES]
    [3, 8, 24]
    """
    return num_sites - num_sites // 5


def shared_runs() -> list[StudyRun]:
    """Return the runs of one seed: both ways at every number of hospitals and target epsilon."""
    return [
        StudyRun(
            name=f"{name}, epsilon {epsilon:g}",
            overrides=(
                *site_overrides([f"S{number}" for number in range(1, num_sites + 1)]),
                f"federation.partition={Partition.IID}",
                f"federation.min_sites={fewest_sites(num_sites)}",
                f"federation.secure_sum={str(is_secure).lower()}",
                f"privacy.target_epsilon={epsilon}",
                "evaluation.privacy=none",
            ),
        )
        for num_sites in NUM_SITES
        for name, is_secure in zip(shared_names(num_sites), (False, True), strict=True)
        for epsilon in SHARED_EPSILONS
    ]
