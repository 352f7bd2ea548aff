"""The grey-level references that ship, made of the training masses of CBIS-DDSM, and what comparing with them finds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from client.data.grey_findings import grey_findings
from client.data.grey_levels import GreyLevels, grey_levels
from client.data.grey_sample import SAMPLE_SIZE
from client.data.images import load_lesion
from client.data.network_inputs import lesion_files
from client.data.preprocessing import Float32Array, normalise
from client.data.tables.site_table import site_table
from shared_model.config.choices import ImageMode, Normalisation
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import DataError, DicomError
from shared_model.reference.grey_levels import GreyReference, GreyReferences, Spread
from shared_model.vocabulary import Split

_NUM_SAMPLES = 500
_ORIGIN = {
    "source": "Curated Breast Imaging Subset of DDSM (CBIS-DDSM), mass training set: Sawyer-Lee, Gimenez, Hoogi, Rubin "
    "2016, The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al. 2017, Sci. Data 4:170177",
    "licence": "CC BY 3.0, https://creativecommons.org/licenses/by/3.0/",
    "changes": "means and standard deviations over lesions of grey-level statistics; no image is contained",
}


def _contrast(factor: float) -> Callable[[Float32Array], Float32Array]:
    """Return the curve that turns about the middle of the scale, and cuts what leaves the scale."""
    return lambda picture: np.asarray(np.clip(factor * (picture - 0.5) + 0.5, 0, 1), dtype=np.float32)


def _windowed(picture: Float32Array) -> Float32Array:
    low, high = np.percentile(picture, (5, 95))
    return np.asarray(np.clip((picture - low) / max(high - low, 1e-3), 0, 1), dtype=np.float32)


ALTERATIONS: Mapping[str, Callable[[Float32Array], Float32Array]] = {
    "as it is": lambda picture: picture,
    "negative": lambda picture: 1 - picture,
    "contrast x 0.5": _contrast(0.5),
    "contrast x 2": _contrast(2),
    "gamma 0.5": np.sqrt,
    "gamma 2": np.square,
    "own window burnt in": _windowed,
}
"""Grey curves of a whole picture in [0, 1]; the window of the last is the picture's own 5th to 95th percentile."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How often one alteration of one hospital's pictures is found by what the other hospitals' are like."""

    normalisation: Normalisation
    alteration: str
    site: str
    """Left out of the reference."""
    single_rate: float
    """Share of single pictures with a finding."""
    sample_rate: float
    """Share of samples with a finding, of ``SAMPLE_SIZE`` pictures."""


def make_references(config: ExperimentConfig) -> GreyReferences:
    """Return the reference of crops for each normalisation, of the training lesions of all sites of ``config``.

    Raises:
        ConfigError, DataError: a table or an image cannot be read, or there are fewer than two lesions.
    """
    pictures = [picture for of_site in _pictures_by_site(config).values() for picture in of_site]
    made = (_reference(_levels(pictures, method), method) for method in Normalisation)
    return GreyReferences(**_ORIGIN, references=tuple(made))


def measure_detection(config: ExperimentConfig) -> Iterator[Detection]:
    """Yield the rates of every normalisation, alteration and site, each site left out of the reference in turn.

    Raises:
        ConfigError, DataError: as ``make_references``, or there is one site only.
    """
    by_site = _pictures_by_site(config)
    if len(by_site) < 2:
        raise DataError(f"Expected masses of two or more sites, got {', '.join(by_site)}.")
    rng = np.random.default_rng(config.seed)
    for method in Normalisation:
        own = {site: _levels(pictures, method) for site, pictures in by_site.items()}
        references = {
            site: _reference([each for other in own if other != site for each in own[other]], method) for site in own
        }
        for name, alter in ALTERATIONS.items():
            for site, pictures in by_site.items():
                levels = _levels([alter(picture) for picture in pictures], method)
                yield Detection(
                    normalisation=method,
                    alteration=name,
                    site=site,
                    single_rate=float(np.mean([_is_found([each], references[site]) for each in levels])),
                    sample_rate=_sample_rate(levels, references[site], rng),
                )


def _pictures_by_site(config: ExperimentConfig) -> dict[str, list[Float32Array]]:
    """Return the training crops by site, in the full range of their files."""
    image = replace(
        config.data.image, mode=ImageMode.CROP, normalisation=Normalisation.FULL_RANGE, clahe_clip_limit=0.0
    )
    found: dict[str, list[Float32Array]] = {}
    for site in config.federation.sites:
        frame = site_table(config, site).frame
        files = lesion_files(frame[frame["split"] == Split.TRAIN], config)
        try:
            found[site] = [load_lesion(lesion, image) for lesion in files]
        except DicomError as error:
            raise DataError(f"Expected crops of all training lesions of {site}: {error}") from error
    return found


def _levels(pictures: Sequence[Float32Array], method: Normalisation) -> list[GreyLevels]:
    """Summarise crops, normalised as a file that holds their grey levels is."""
    return [
        grey_levels(normalise(picture, (0, 1), method, np.zeros(picture.shape, dtype=bool)), ImageMode.CROP)
        for picture in pictures
    ]


def _reference(levels: Sequence[GreyLevels], method: Normalisation) -> GreyReference:
    if len(levels) < 2:
        raise DataError(f"Expected two or more lesions with a crop, got {len(levels)}.")

    def spread(values: Sequence[float]) -> Spread:
        return Spread(mean=round(float(np.mean(values)), 4), sd=round(float(np.std(values, ddof=1)), 4))

    return GreyReference(
        mode=ImageMode.CROP,
        normalisation=method,
        num_lesions=len(levels),
        middle=spread([each.middle for each in levels]),
        log_range=spread([each.log_range for each in levels]),
        relative_contrast=spread([each.relative_contrast for each in levels]),
    )


def _is_found(levels: Sequence[GreyLevels], reference: GreyReference) -> bool:
    return bool(grey_findings(levels, reference))


def _sample_rate(levels: Sequence[GreyLevels], reference: GreyReference, rng: np.random.Generator) -> float:
    size = min(SAMPLE_SIZE, len(levels))
    draws = (rng.choice(len(levels), size, replace=False) for _ in range(_NUM_SAMPLES))
    return float(np.mean([_is_found([levels[place] for place in draw], reference) for draw in draws]))
