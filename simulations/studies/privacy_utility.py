"""The privacy-utility study: every input at every target epsilon, beside what else could be done with the same data.

It is about the official test lesions of CBIS-DDSM masses over the three hospitals that saw the patients. Nothing was
chosen by it: the recipe comes from ``fedmammo study search``, on training patients alone.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from shared_model.config.choices import ConstantsFrom, Modality, ThresholdFrom
from shared_model.vocabulary import FeaturePolicy
from simulations.federation.server_files import write_roster
from simulations.studies.noise_shares import shared_runs
from simulations.studies.protocols import CENTRAL, NO_PRIVACY, StudyData, StudyRun, site_overrides
from simulations.studies.purposes import Part
from simulations.studies.shipped_constants import shipped_runs

UTILITY = "utility"
RECIPE = ("preset=cbis_mass", f"data.features={FeaturePolicy.DESCRIPTORS}", "evaluation.bootstrap_resamples=200")
"""Overrides of all runs. Intervals of the tables are drawn anew, so those of single runs may be coarse."""
TARGET_EPSILONS: tuple[float | None, ...] = (None, 8.0, 4.0, 2.0, 1.0)
"""None is no privacy."""
COMPARED_EPSILONS: tuple[float | None, ...] = (None, 8.0)
"""At which ``comparisons`` are trained."""

_IMAGE, _CLINICAL = f"model.modality={Modality.IMAGE}", f"model.modality={Modality.CLINICAL}"
_READER = f"data.features={FeaturePolicy.READER}"
INPUTS: dict[str, tuple[str, ...]] = {
    "image": (_IMAGE,),
    "image, each view by itself": (_IMAGE, "data.views=own"),
    "image + safe columns": (f"data.features={FeaturePolicy.SAFE}",),
    "image + descriptors": (),
    "image + descriptors, each view by itself": ("data.views=own",),
    "image + reader columns": (_READER,),
    "descriptors alone": (_CLINICAL,),
    "reader columns alone": (_CLINICAL, _READER),
}
"""Overrides beyond ``RECIPE``, by name."""
_PUBLIC = (
    "data.public_fraction=0.12",
    f"model.feature_constants={ConstantsFrom.PUBLIC}",
    "model.image_components=64",
    f"evaluation.threshold_from={ThresholdFrom.HELD_OUT}",
)
WITH_PUBLIC: dict[str, tuple[str, ...]] = {
    "image, 12 % of the patients public": (_IMAGE, *_PUBLIC),
    "image + descriptors, 12 % of the patients public": _PUBLIC,
}
"""What a consortium could do whose hospitals declared patients public: their mean and components, their threshold."""
OPERATED = ("image", "image + descriptors")
"""Inputs whose threshold and calibration are reported too."""


def utility_runs(data: StudyData, parts: Collection[Part] = tuple(Part)) -> list[StudyRun]:
    """Return the runs of one seed; ``data`` are prepared with ``RECIPE``."""
    of_part: dict[Part, Callable[[], list[StudyRun]]] = {
        Part.INPUTS: lambda: _named_runs(INPUTS | WITH_PUBLIC, TARGET_EPSILONS),
        Part.COMPARISONS: lambda: _named_runs(comparisons(data), COMPARED_EPSILONS),
        Part.SHIPPED: lambda: shipped_runs(data),
        Part.SHARED_NOISE: shared_runs,
    }
    return [run for part, runs in of_part.items() if part in parts for run in runs()]


def _named_runs(named: Mapping[str, tuple[str, ...]], epsilons: Sequence[float | None]) -> list[StudyRun]:
    return [
        StudyRun(name=run_name(name, epsilon), overrides=(*overrides, _privacy_override(epsilon)))
        for name, overrides in named.items()
        for epsilon in epsilons
    ]


def comparisons(data: StudyData) -> dict[str, tuple[str, ...]]:
    """Return what else could be done with images and descriptors: overrides beyond ``RECIPE``, by name."""
    same_test = data.same_test_overrides()
    central = data.same_test_overrides(write_roster(data.config, dict.fromkeys(data.roster, CENTRAL)))
    alone = {f"{site} alone": (*same_test, *site_overrides([site])) for site in data.sites}
    partitions = {
        f"{words}, {num_sites} sites": (
            f"federation.partition={partition}",
            *site_overrides([f"S{number}" for number in range(1, num_sites + 1)]),
        )
        for partition, words in (
            ("iid", "patients dealt at random"),
            ("label_skew", "patients dealt by Dirichlet(0.5)"),
        )
        for num_sites in (3, 10)
    }
    fusions = {f"{fusion} fusion": (*same_test, f"model.fusion={fusion}") for fusion in ("mid", "late")}
    return {"centralised": (*central, *site_overrides([CENTRAL])), **alone, **partitions, **fusions}


def _privacy_override(epsilon: float | None) -> str:
    return NO_PRIVACY if epsilon is None else f"privacy.target_epsilon={epsilon}"


def run_name(name: str, epsilon: float | None) -> str:
    """Return the name of the run of one input or comparison at one target epsilon.

    >>> run_name("image", 8.0), run_name("image", None)
    ('image, epsilon 8', 'image, no privacy')
    """
    return f"{name}, {epsilon_words(epsilon)}"


def epsilon_words(epsilon: float | None) -> str:
    """Return a target epsilon as tables have it."""
    return "no privacy" if epsilon is None else f"epsilon {epsilon:g}"
