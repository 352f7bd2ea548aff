"""The catalogue filled from a release and its run: every text with its figures, every place checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.dossier.catalogue import (
    Catalogue,
    ChangePlan,
    Checklist,
    Control,
    IntendedUse,
    ItemAnswer,
    Modification,
    RiskTable,
    Statement,
    Status,
    chosen,
)
from server.dossier.citations import Citations, Figure, Part
from server.dossier.facts import facts_of, is_synthetic
from server.dossier.sources import Sources
from shared_model.errors import ConfigError
from shared_model.release.signature import digest_of

SCHEMA_VERSION = 1
"""Of ``dossier.json``: raised whenever a key is added, removed or changes its meaning."""
DISCLAIMER = (
    "Research software, no medical device. This dossier claims no conformity with a standard, law or guideline, and no "
    "authority or manufacturer has judged it. It says what is known, where it stands, and what is missing."
)
PROTOCOL = ("data", "retraining", "evaluation", "update")
"""Parts of a modification protocol."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """A text with its figures, and where more stands."""

    parts: tuple[Part, ...]
    at: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The text with the figures in it."""
        return "".join(part.words for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class SaidUse:
    """A topic of the intended use."""

    topic: str
    said: Said


@dataclass(frozen=True, kw_only=True)
class SaidRisk:
    """A row of the risk table."""

    id: str
    hazard: str
    sequence: str
    situation: str
    harm: str
    severity: str
    probability: Said
    controls: tuple[Said, ...]
    residual: str
    evidence: Said


@dataclass(frozen=True, kw_only=True)
class SaidItem:
    """An item of a checklist."""

    number: str
    section: str
    topic: str
    status: Status
    said: Said


@dataclass(frozen=True, kw_only=True)
class SaidChecklist:
    """A checklist, filled."""

    name: str
    source: str
    note: str
    counts: Mapping[str, int]
    """Items, with their parts, by status."""
    items: tuple[SaidItem, ...]


@dataclass(frozen=True, kw_only=True)
class SaidModification:
    """A planned change."""

    id: str
    title: str
    description: str
    protocol: Mapping[str, Said]
    benefit: str
    risk: str
    mitigation: str


@dataclass(frozen=True, kw_only=True)
class SaidPlan:
    """The change plan."""

    source: str
    intro: str
    baseline: Said
    modifications: tuple[SaidModification, ...]
    excluded: tuple[str, ...]
    cumulative: str
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Dossier:
    """The whole of it."""

    release_name: str
    release_digest: str
    is_signed: bool
    tests_are_public: bool
    """Whether the release declares the run's test lesions public, of which this dossier tells figures."""
    is_synthetic: bool
    """Whether the patients of the run were made up."""
    missing: tuple[str, ...]
    """What the run lacks for figures of decisions."""
    files: Mapping[str, str]
    """Name to SHA-256 of every file that is cited."""
    use_intro: str
    uses: tuple[SaidUse, ...]
    risk_table: RiskTable
    risks: tuple[SaidRisk, ...]
    checklists: tuple[SaidChecklist, ...]
    plan: SaidPlan
    figures: tuple[Figure, ...]


def assemble_dossier(sources: Sources, catalogue: Catalogue) -> Dossier:
    """Fill the catalogue.

    Raises:
        ConfigError: a claim cites a key or a section that does not exist, or depends on an unknown fact.
    """
    filled = _Filling(
        citations=Citations(documents=sources.documents, anchors=sources.anchors),
        facts=facts_of(sources.release, sources.run),
    )
    release = sources.release
    return Dossier(
        release_name=release.name,
        release_digest=sources.digest,
        is_signed=release.is_signed,
        tests_are_public=release.figures is not None,
        is_synthetic=is_synthetic(sources.run.configuration),
        missing=tuple(dict.fromkeys(sources.run.decisions.missing.values())),
        files={name: digest_of(content) for name, content in sources.files.items()},
        use_intro=catalogue.intended_use.intro,
        uses=filled.uses(catalogue.intended_use),
        risk_table=catalogue.risks,
        risks=filled.risks(catalogue.risks),
        checklists=tuple(filled.checklist(each) for each in catalogue.checklists),
        plan=filled.plan(catalogue.change_plan),
        figures=tuple(filled.citations.figures),
    )


@dataclass(frozen=True, kw_only=True)
class _Filling:
    citations: Citations
    facts: Mapping[str, bool]

    def uses(self, use: IntendedUse) -> tuple[SaidUse, ...]:
        return tuple(SaidUse(topic=entry.topic, said=self._first(entry.answers)) for entry in use.entries)

    def risks(self, table: RiskTable) -> tuple[SaidRisk, ...]:
        return tuple(
            SaidRisk(
                id=risk.id,
                hazard=risk.hazard,
                sequence=risk.sequence,
                situation=risk.situation,
                harm=risk.harm,
                severity=risk.severity,
                probability=self._first(risk.probability),
                controls=tuple(self._control(control) for control in risk.controls),
                residual=risk.residual,
                evidence=self._first(risk.evidence),
            )
            for risk in table.risks
        )

    def checklist(self, checklist: Checklist) -> SaidChecklist:
        items = tuple(
            SaidItem(
                number=item.number,
                section=item.section,
                topic=item.topic,
                status=(answer := self._chosen(item.answers)).status,
                said=self._said(answer.text, answer.at),
            )
            for item in checklist.items
        )
        return SaidChecklist(
            name=checklist.name,
            source=checklist.source,
            note=checklist.note,
            counts={str(status): sum(item.status is status for item in items) for status in Status},
            items=items,
        )

    def plan(self, plan: ChangePlan) -> SaidPlan:
        return SaidPlan(
            source=plan.source,
            intro=plan.intro,
            baseline=self._said(plan.baseline, ()),
            modifications=tuple(self._modification(each) for each in plan.modifications),
            excluded=plan.excluded,
            cumulative=plan.cumulative,
            missing=plan.missing,
        )

    def _modification(self, change: Modification) -> SaidModification:
        return SaidModification(
            id=change.id,
            title=change.title,
            description=change.description,
            protocol={part: self._said(getattr(change, part), getattr(change, f"{part}_by")) for part in PROTOCOL},
            benefit=change.benefit,
            risk=change.risk,
            mitigation=change.mitigation,
        )

    def _control(self, control: Control) -> Said:
        return self._said(control.text, control.by)

    def _first(self, alternatives: Sequence[Statement]) -> Said:
        try:
            found = chosen(alternatives, self.facts)
        except KeyError as error:
            raise ConfigError(f"Expected a fact that is known, got {error}.") from error
        return self._said(found.text, found.at)

    def _chosen(self, answers: Sequence[ItemAnswer]) -> ItemAnswer:
        try:
            return chosen(answers, self.facts)
        except KeyError as error:
            raise ConfigError(f"Expected a fact that is known, got {error}.") from error

    def _said(self, text: str, at: Sequence[str]) -> Said:
        # A section that the report of this run does not have is left out only by a condition of its own.
        self.citations.check(at)
        return Said(parts=self.citations.parts(text), at=tuple(at))
