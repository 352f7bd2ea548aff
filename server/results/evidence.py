"""What the results say beyond three final figures: more figures, at three levels and for groups of lesions."""

import dataclasses
from enum import StrEnum

from server.results.strict_json import check, check_range
from shared_model.metrics.intervals import ConfidenceInterval


class Level(StrEnum):
    """What is counted: a breast or patient is malignant if any lesion is, and scores as its worst lesion."""

    LESION = "lesion"
    BREAST = "breast"
    PATIENT = "patient"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of merit with its interval."""

    name: str
    """A key of ``server.evaluation.estimates.FIGURES``."""
    value: float | None
    """Null where it is not defined, for instance a PPV where nothing is called malignant."""
    interval: ConfidenceInterval | None
    """95 % over patients; null with ``value``, where resamples are too often undefined, and for site histograms."""

    def __post_init__(self) -> None:
        check(self, "name", bool(self.name), "not empty")
        check_range(self, 0, 1, "value")
        check(self, "interval", self.interval is None or self.value is not None, "only with a value")


def shown(figure: Figure | None, digits: int = 3) -> str:
    """Return ``0.851 (0.796 to 0.899)``, or a dash where there is no value."""
    if figure is None or figure.value is None:
        return "-"
    between = ""
    if figure.interval is not None:
        between = f" ({figure.interval.low:.{digits}f} to {figure.interval.high:.{digits}f})"
    return f"{figure.value:.{digits}f}{between}"


class _HasFigures:
    """Finds figures by name."""

    figures: tuple[Figure, ...]

    def figure(self, name: str) -> Figure | None:
        """Return the figure ``name``, None where it was not computed."""
        return next((figure for figure in self.figures if figure.name == name), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelResult(_HasFigures):
    """The figures when lesions, breasts or patients are counted."""

    level: Level
    num_units: int
    num_malignant: int
    auroc_interval_delong: ConfidenceInterval | None
    """Closed form, lesions of a patient taken together; null for site histograms or too few patients of a class."""
    tp: int | None
    """Malignant and called malignant at the frozen threshold; this and the next three are null without threshold."""
    fp: int | None
    tn: int | None
    fn: int | None
    figures: tuple[Figure, ...]

    def __post_init__(self) -> None:
        check_range(self, 0, None, "num_units", "num_malignant", "tp", "fp", "tn", "fn")
        check(self, "num_malignant", self.num_malignant <= self.num_units, f"<= {self.num_units}")
        calls = [call for call in (self.tp, self.fp, self.tn, self.fn) if call is not None]
        check(self, "num_units", not calls or (len(calls) == 4 and sum(calls) == self.num_units), "= all calls")
        names = [figure.name for figure in self.figures]
        check(self, "figures", len(set(names)) == len(names), "of different names")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupResult(_HasFigures):
    """The lesions that share one value of one attribute."""

    attribute: str
    value: str
    num_lesions: int
    num_malignant: int
    num_patients: int
    is_small: bool
    """So few patients that the intervals say more than the values."""
    figures: tuple[Figure, ...]

    def __post_init__(self) -> None:
        for name in ("attribute", "value"):
            check(self, name, bool(getattr(self, name)), "not empty")
        check_range(self, 0, self.num_lesions, "num_malignant", "num_patients")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """Figures of the final parameters on the test lesions."""

    prevalence: float
    """Share of malignant cases for which predictive values and net benefit are also stated, in (0, 1)."""
    levels: tuple[LevelResult, ...]
    groups: tuple[GroupResult, ...]

    def __post_init__(self) -> None:
        check(self, "prevalence", 0 < self.prevalence < 1, "in (0, 1)")

    def level(self, level: Level) -> LevelResult | None:
        """Return one level, None where it was not computed."""
        return next((found for found in self.levels if found.level is level), None)
