"""The catalogue: what the dossier says, as YAML beside this module, with alternatives for what a run may lack.

A text may cite figures, ``[[results:/final/auroc|/final/auroc_interval]]``; ``at`` names where more stands.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

from shared_model.config.bounds import Count
from shared_model.system.checked import NOT_EMPTY, checked, require
from shared_model.system.documents import load_yaml

_FOLDER = Path(__file__).parent / "catalogue"
Text = Annotated[str, NOT_EMPTY]
Texts = tuple[Text, ...]


class Status(StrEnum):
    """How far an item of a checklist is answered."""

    ANSWERED = "answered"
    PARTLY = "partly"
    NOT_ANSWERED = "not answered"
    NOT_APPLICABLE = "not applicable"


@checked(error=ValueError)
class Statement:
    """What is said where all of ``when`` hold."""

    text: Text
    at: Texts = ()
    """Where more stands: ``report#anchor``, ``card``, ``results:/key``, ``decisions:/key``, ``release:/key``, a command
    or a file of the repository, with an anchor or a test."""
    when: Texts = ()
    """Names of facts (``server.dossier.facts``), each also after ``not ``."""


@checked(error=ValueError)
class ItemAnswer:
    """A statement that answers an item of a checklist, or says why it does not."""

    status: Status
    text: Text
    at: Texts = ()
    when: Texts = ()


class _Conditional(Protocol):
    @property
    def when(self) -> Texts: ...


C = TypeVar("C", bound=_Conditional)


def chosen(alternatives: Sequence[C], facts: Mapping[str, bool]) -> C:
    """Return the first of the alternatives of which all conditions hold; the last one has none.

    Raises:
        KeyError: a condition names no fact.
    """
    return next(
        each
        for each in alternatives
        if all(facts[fact.removeprefix("not ")] != fact.startswith("not ") for fact in each.when)
    )


def _require_default(alternatives: Sequence[_Conditional], of: str) -> None:
    is_last = [not each.when for each in alternatives]
    require(is_last == [False] * (len(is_last) - 1) + [True], "to end with the one without conditions", **{of: ""})


@checked(error=ValueError)
class UseEntry:
    """One topic of the intended use."""

    topic: Text
    answers: Annotated[tuple[Statement, ...], NOT_EMPTY]

    def __post_init__(self) -> None:
        _require_default(self.answers, self.topic)


@checked(error=ValueError)
class IntendedUse:
    """The statement of intended use."""

    intro: Text
    entries: Annotated[tuple[UseEntry, ...], NOT_EMPTY]


@checked(error=ValueError)
class Control:
    """A risk control measure, and what implements and tests it."""

    text: Text
    by: Annotated[Texts, NOT_EMPTY]


@checked(error=ValueError)
class Severity:
    """A word of the scale."""

    name: Text
    meaning: Text


@checked(error=ValueError)
class Risk:
    """A row of the risk table."""

    id: Text
    hazard: Text
    sequence: Text
    situation: Text
    harm: Text
    severity: Text
    probability: Annotated[tuple[Statement, ...], NOT_EMPTY]
    controls: Annotated[tuple[Control, ...], NOT_EMPTY]
    residual: Text
    evidence: Annotated[tuple[Statement, ...], NOT_EMPTY]

    def __post_init__(self) -> None:
        _require_default(self.probability, f"{self.id} probability")
        _require_default(self.evidence, f"{self.id} evidence")


@checked(error=ValueError)
class RiskTable:
    """The risk table."""

    source: Text
    intro: Text
    severities: tuple[Severity, ...]
    risks: Annotated[tuple[Risk, ...], NOT_EMPTY]

    def __post_init__(self) -> None:
        known = {severity.name for severity in self.severities}
        for risk in self.risks:
            require(risk.severity in known, f"to be one of {', '.join(sorted(known))}", **{risk.id: risk.severity})


@checked(error=ValueError)
class Item:
    """An item of a checklist, with its number there and its topic in our own words."""

    number: Text
    section: Text
    topic: Text
    answers: Annotated[tuple[ItemAnswer, ...], NOT_EMPTY]

    def __post_init__(self) -> None:
        _require_default(self.answers, f"item {self.number}")


@checked(error=ValueError)
class Checklist:
    """A checklist for reports of studies."""

    name: Text
    source: Text
    note: Text
    num_items: Count
    """Items with letters are parts of one."""
    items: Annotated[tuple[Item, ...], NOT_EMPTY]

    def __post_init__(self) -> None:
        numbers = [int(item.number.rstrip("abcdefg")) for item in self.items]
        is_whole = sorted(set(numbers)) == list(range(1, self.num_items + 1)) and numbers == sorted(numbers)
        require(is_whole, f"to be 1 to {self.num_items} in order", items=self.name)


@checked(error=ValueError)
class Modification:
    """A planned change: what it is, by which protocol it is made, and what it may do."""

    id: Text
    title: Text
    description: Text
    data: Text
    data_by: Annotated[Texts, NOT_EMPTY]
    retraining: Text
    retraining_by: Annotated[Texts, NOT_EMPTY]
    evaluation: Text
    evaluation_by: Annotated[Texts, NOT_EMPTY]
    update: Text
    update_by: Annotated[Texts, NOT_EMPTY]
    benefit: Text
    risk: Text
    mitigation: Text


@checked(error=ValueError)
class ChangePlan:
    """The plan of changes that are foreseen."""

    source: Text
    intro: Text
    baseline: Text
    modifications: Annotated[tuple[Modification, ...], NOT_EMPTY]
    excluded: Annotated[Texts, NOT_EMPTY]
    cumulative: Text
    missing: Texts


@checked(error=ValueError)
class Catalogue:
    """All of it."""

    intended_use: IntendedUse
    risks: RiskTable
    checklists: tuple[Checklist, ...]
    change_plan: ChangePlan


def load_catalogue() -> Catalogue:
    """Read the catalogue that comes with the package.

    Raises:
        ConfigError: a file of it is damaged.
    """
    return Catalogue(
        intended_use=load_yaml(IntendedUse, _FOLDER / "intended_use.yaml", what="the intended use"),
        risks=load_yaml(RiskTable, _FOLDER / "risks.yaml", what="the risk table"),
        checklists=tuple(
            load_yaml(Checklist, _FOLDER / f"{name}.yaml", what="the checklist") for name in ("tripod_ai", "claim")
        ),
        change_plan=load_yaml(ChangePlan, _FOLDER / "change_plan.yaml", what="the change plan"),
    )
