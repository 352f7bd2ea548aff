"""How bright and how contrasty real masses are as the network sees them: what a hospital's pictures are held against.

The file beside this module was made by ``fedmammo reference grey-levels`` of the training masses of CBIS-DDSM.
"""

from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from shared_model.config.bounds import Count, Positive
from shared_model.config.choices import ImageMode, Normalisation
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import ConfigError
from shared_model.system.checked import NOT_EMPTY, build, checked, require
from shared_model.system.documents import from_json

_SHIPPED = Path(__file__).with_name("grey_levels.json")
_Level = Annotated[float, Interval(ge=-10, le=10)]


@checked()
class Spread:
    """One number over many lesions."""

    mean: _Level
    sd: Positive


@checked()
class GreyReference:
    """Three numbers about the pictures of lesions, which ``client.data.grey_levels`` takes of each."""

    mode: ImageMode
    normalisation: Normalisation
    num_lesions: Count
    middle: Spread
    """The median grey of what is not background, in [0, 1]."""
    log_range: Spread
    """Natural logarithm of the distance from the grey that 5 % stay below to the grey that 5 % are above."""
    relative_contrast: Spread
    """How much brighter the centre is than the rim, in parts of that distance."""


@checked()
class GreyReferences:
    """References by image mode and normalisation, with where they come from."""

    source: str
    licence: str
    changes: str
    references: Annotated[tuple[GreyReference, ...], NOT_EMPTY]

    def __post_init__(self) -> None:
        keys = [(reference.mode, reference.normalisation) for reference in self.references]
        require(len(set(keys)) == len(keys), "to differ in mode and normalisation", references=len(keys))

    def fitting(self, image: ImageConfig) -> GreyReference | None:
        """Return the reference for pictures that are made as ``image`` says; None where there is none.

        Equalised histograms (CLAHE) have none: what they do depends on the picture.
        """
        found = (
            each for each in self.references if (each.mode, each.normalisation) == (image.mode, image.normalisation)
        )
        return next(found, None) if image.clahe_clip_limit == 0 else None


def load_grey_references(path: Path = _SHIPPED) -> GreyReferences:
    """Read references, by default those that ship with the package.

    Raises:
        ConfigError: the file cannot be read, or is no such file.
    """
    try:
        return build(GreyReferences, from_json(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Expected grey-level references in {path}: {error}") from error
