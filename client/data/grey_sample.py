"""Some of a site's images, looked at as the network sees them: do their grey levels fit?"""

from collections.abc import Sequence
from dataclasses import dataclass

from client.data.grey_findings import GreyFinding, grey_findings
from client.data.grey_levels import FAINT, GreyLevels, grey_levels, is_faint
from client.data.images import LesionFiles, image_paths_used, load_lesion
from client.data.sampling import evenly_spread
from shared_model.config.choices import Normalisation
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import DicomError
from shared_model.reference.grey_levels import load_grey_references

SAMPLE_SIZE = 48


@dataclass(frozen=True, kw_only=True)
class GreySample:
    """What a sample of images is like."""

    levels: tuple[GreyLevels, ...]
    findings: tuple[GreyFinding, ...]
    num_faint: int
    """Images that use under a tenth of their levels, where they are normalised by the full range."""

    @classmethod
    def of(cls, lesions: Sequence[LesionFiles], image: ImageConfig) -> "GreySample":
        """Look at some of the lesions, evenly spread; what cannot be read is for others to say.

        Raises:
            ConfigError: the references that ship with the package cannot be read.
        """
        levels, num_faint = [], 0
        for lesion in evenly_spread([each for each in lesions if image_paths_used(each, image.mode)], SAMPLE_SIZE):
            try:
                picture = load_lesion(lesion, image)
            except (DicomError, OSError):
                continue
            levels.append(grey_levels(picture, image.mode))
            num_faint += image.normalisation is Normalisation.FULL_RANGE and is_faint(picture)
        reference = load_grey_references().fitting(image)
        return cls(levels=tuple(levels), findings=grey_findings(levels, reference), num_faint=num_faint)

    def __str__(self) -> str:
        num_negative = sum(levels.looks_negative for levels in self.levels)
        return f"{len(self.levels)} images looked at, {num_negative} of them darker inside than outside"

    @property
    def doubts(self) -> tuple[str, ...]:
        """A line for everything that somebody should look at."""
        faint = f"{self.num_faint} of {len(self.levels)} sampled images {FAINT}"
        return (*(finding.text for finding in self.findings), *([faint] if self.num_faint else []))
