"""What the results say beyond three final figures: more figures, at three levels and for groups of lesions."""

from enum import StrEnum
from typing import Annotated

from annotated_types import Interval as Between

from server.results.estimate import Estimate, Size
from shared_model.config.bounds import Interval, Text
from shared_model.system.checked import checked, require


class Level(StrEnum):
    """What is counted: a breast or patient is malignant if any lesion is, and scores as its worst lesion."""

    LESION = "lesion"
    BREAST = "breast"
    PATIENT = "patient"


class _WithEstimates:
    """Finds estimates by name."""

    figures: tuple[Estimate, ...]

    def estimate(self, name: str) -> Estimate | None:
        """Return the estimate of the figure of merit ``name``, None where it was not computed."""
        return next((estimate for estimate in self.figures if estimate.name == name), None)


@checked(error=ValueError)
class LevelResult(_WithEstimates):
    """The figures when lesions, breasts or patients are counted."""

    level: Level
    num_units: Size
    num_malignant: Size
    auroc_interval_delong: Interval | None
    """Closed form, lesions of a patient taken together; null for site histograms or too few patients of a class."""
    tp: Size | None
    """Malignant and called malignant at the frozen threshold; this and the next three are null without threshold."""
    fp: Size | None
    tn: Size | None
    fn: Size | None
    figures: tuple[Estimate, ...]

    def __post_init__(self) -> None:
        require(
            self.num_malignant <= self.num_units, f"<= num_units={self.num_units}", num_malignant=self.num_malignant
        )
        calls = [call for call in (self.tp, self.fp, self.tn, self.fn) if call is not None]
        is_whole = not calls or (len(calls) == 4 and sum(calls) == self.num_units)
        require(is_whole, "to be the sum of tp, fp, tn and fn", num_units=self.num_units)
        names = [estimate.name for estimate in self.figures]
        require(len(set(names)) == len(names), "to have different names", figures=names)


@checked(error=ValueError)
class GroupResult(_WithEstimates):
    """The lesions that share one value of one attribute."""

    attribute: Text
    value: Text
    num_lesions: int
    num_malignant: Size
    num_patients: Size
    is_small: bool
    """So few patients that the intervals say more than the values."""
    figures: tuple[Estimate, ...]

    def __post_init__(self) -> None:
        for name in ("num_malignant", "num_patients"):
            count = getattr(self, name)
            require(count <= self.num_lesions, f"<= num_lesions={self.num_lesions}", **{name: count})


@checked(error=ValueError)
class Evidence:
    """Figures of the final parameters on the test lesions."""

    prevalence: Annotated[float, Between(gt=0, lt=1)]
    """Share of malignant cases for which predictive values and net benefit are also stated, in (0, 1)."""
    levels: tuple[LevelResult, ...]
    groups: tuple[GroupResult, ...]

    def level(self, level: Level) -> LevelResult | None:
        """Return one level, None where it was not computed."""
        return next((found for found in self.levels if found.level is level), None)
