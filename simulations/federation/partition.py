"""Partitions of the patients over simulated sites: every patient is at one site, with all her lesions."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from shared_model.config.choices import Partition
from shared_model.errors import ConfigError

_DENSITY_MISSING = "0"


def assign_sites(
    frame: pd.DataFrame,
    sites: Sequence[str],
    *,
    partition: Partition,
    concentration: float,
    generator: np.random.Generator,
) -> dict[str, str]:
    """Assign the patients of a lesion table to ``sites``.

    ``iid`` gives each site in turn the next patient of a shuffled list. The skewed partitions draw, for every group of
    patients (by whether any lesion is malignant, or by breast density), the sites' shares from a Dirichlet
    distribution of ``concentration`` (Hsu et al. 2019), and give a patient to every site that would stay empty.

    Args:
        frame: columns ``patient_id``, ``label`` and ``breast_density``, one row per lesion view.
        sites: names.
        partition: any but ``hospital``, which is known and not drawn.
        concentration: positive; smaller is more skewed, and ``iid`` ignores it.
        generator: draws order and shares.

    Returns:
        The site of every patient.

    Raises:
        ConfigError: fewer patients than sites, or ``partition`` is ``hospital``.
    """
    groups = _groups(frame, partition)
    patients = [patient for group in groups for patient in group]
    if len(patients) < len(sites):
        raise ConfigError(f"Expected at least as many patients as sites, got {len(patients)} for {len(sites)} sites.")
    if partition is Partition.IID:
        shuffled = generator.permutation(np.array(patients, dtype=object))
        return {str(patient): sites[i % len(sites)] for i, patient in enumerate(shuffled)}
    roster: dict[str, str] = {}
    for group in groups:
        shares = generator.dirichlet([concentration] * len(sites))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(group)).astype(int)
        shuffled = generator.permutation(np.array(group, dtype=object))
        for site, part in zip(sites, np.split(shuffled, cuts), strict=True):
            roster.update(dict.fromkeys(map(str, part), site))
    return _fill_empty(roster, sites)


def _groups(frame: pd.DataFrame, partition: Partition) -> list[list[str]]:
    if partition is Partition.LABEL_SKEW:
        key = frame.groupby("patient_id", sort=True)["label"].max().astype(str)
    elif partition is Partition.DENSITY_SKEW:
        key = frame.groupby("patient_id", sort=True)["breast_density"].first().fillna(_DENSITY_MISSING).astype(str)
    elif partition is Partition.IID:
        return [sorted(map(str, frame["patient_id"].unique()))]
    else:
        raise ConfigError("Expected a partition that assigns patients; hospital reads data.roster.")
    return [[str(patient) for patient in members.index] for _, members in key.groupby(key)]


def _fill_empty(roster: Mapping[str, str], sites: Sequence[str]) -> dict[str, str]:
    """Move one patient from the largest site to every empty one.

    >>> _fill_empty({"P1": "A", "P2": "A", "P3": "A"}, ["A", "B"])
    {'P1': 'B', 'P2': 'A', 'P3': 'A'}
    """
    filled = dict(roster)
    for site in sites:
        if site not in filled.values():
            sizes = {name: list(filled.values()).count(name) for name in sites}
            largest = max(sizes, key=lambda name: sizes[name])
            filled[next(patient for patient, name in filled.items() if name == largest)] = site
    return filled
