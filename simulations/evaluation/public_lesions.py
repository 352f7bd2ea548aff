"""Lesions that the coordinator declares public, read for a release: what the network sees, and their grey levels."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from client.data.grey_levels import grey_levels
from client.data.images import LesionFiles, image_paths_used, load_lesion
from server.release.public_calibration import PublicLesions
from shared_model.config.choices import Modality
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import ConfigError
from shared_model.release.document import MAX_PICTURES, GreyContract
from shared_model.vocabulary import Split
from simulations.evaluation.other_lesions import Source, read_other_lesions

_MIN_PICTURES = 50
_SLACK = 0.05
"""Of the range that the public pictures span, beyond its ends: what is farther out has never been seen."""


def read_public_lesions(source: Source, config: ExperimentConfig) -> PublicLesions:
    """Read the lesions of ``source`` for the network of ``config``.

    Raises:
        ConfigError: they have no outcomes, or are not what the network reads.
        DataError: the table cannot be read, or no lesion be used.
    """
    other = read_other_lesions(source, config, lambda _done, _total: None)
    if not other.has_outcomes:
        raise ConfigError(f"Expected outcomes (label) in {source.path}, by which abstention is calibrated.")
    rows = "all rows" if source.split is None else f"the {source.split} split"
    has_images = config.model.modality is not Modality.CLINICAL
    return PublicLesions(
        lesions=other.lesions,
        source=f"{rows} of {source.name}, which the coordinator declares public",
        overlaps_training=source.split is not Split.TEST,
        grey_reference=_grey_contract(other.files, other.patient_ids, config.data.image) if has_images else None,
    )


def _grey_contract(lesions: Sequence[LesionFiles], patients: Sequence[str], image: ImageConfig) -> GreyContract | None:
    """Return between which grey levels pictures of the lesions lie; None where they are too few."""
    with_pictures = [
        (lesion, patient)
        for lesion, patient in zip(lesions, patients, strict=True)
        if image_paths_used(lesion, image.mode)
    ]
    step = -(-len(with_pictures) // MAX_PICTURES) or 1
    chosen = with_pictures[::step]
    if len(chosen) < _MIN_PICTURES:
        return None
    found = [asdict(grey_levels(load_lesion(lesion, image), image.mode)) for lesion, _ in chosen]
    first = {patient: levels for levels, (_, patient) in reversed([*zip(found, chosen, strict=True)])}
    lowest, highest = {}, {}
    for name in found[0]:
        values = np.array([levels[name] for levels in found])
        slack = _SLACK * float(np.ptp(values))
        lowest[name], highest[name] = float(values.min()) - slack, float(values.max()) + slack
    # Ascending, so that no order says which patient a number is of.
    ordered = {name: tuple(sorted(levels[name] for levels in first.values())) for name in found[0]}
    return GreyContract(num_pictures=len(chosen), lowest=lowest, highest=highest, values=ordered)
