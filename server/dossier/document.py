"""A dossier as JSON and as a page: the same content, every claim beside the file and key of its figure."""

import json

from server.dossier.assembly import DISCLAIMER, PROTOCOL, SCHEMA_VERSION, Dossier, Said, SaidItem, SaidRisk
from server.dossier.catalogue import Status
from server.dossier.citations import Figure
from server.report.decisions import NO_SCREENING_STUDY
from shared_model.system.html_templates import package_templates

_PROTOCOL_WORDS = {
    "data": "Data management",
    "retraining": "Re-training",
    "evaluation": "Performance evaluation",
    "update": "Update procedure",
}
FILES_FOLDER = "files"
"""In the dossier's folder: copies of what it cites."""


def to_dossier_json(dossier: Dossier) -> str:
    """Return the document for programs."""
    values = {
        "schema_version": SCHEMA_VERSION,
        "disclaimer": DISCLAIMER,
        "release": {
            "name": dossier.release_name,
            "digest": dossier.release_digest,
            "is_signed": dossier.is_signed,
            "tests_are_public": dossier.tests_are_public,
        },
        "is_synthetic": dossier.is_synthetic,
        "files": {f"{FILES_FOLDER}/{name}": digest for name, digest in dossier.files.items()},
        "missing": dossier.missing,
        "no_screening_study": NO_SCREENING_STUDY,
        "intended_use": [{"topic": use.topic, **_said(use.said)} for use in dossier.uses],
        "risks": [_risk(risk) for risk in dossier.risks],
        "checklists": [
            {
                "name": each.name,
                "source": each.source,
                "counts": each.counts,
                "items": [_item(item) for item in each.items],
            }
            for each in dossier.checklists
        ],
        "change_plan": _plan(dossier),
        "figures": [_figure(figure) for figure in dossier.figures],
    }
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_dossier_html(dossier: Dossier) -> str:
    """Return the page, which loads nothing from elsewhere."""
    environment = package_templates("server.dossier")
    return environment.get_template("dossier.html").render(
        dossier=dossier,
        disclaimer=DISCLAIMER,
        protocol_words=_PROTOCOL_WORDS,
        no_screening_study=NO_SCREENING_STUDY,
        folder=FILES_FOLDER,
        classes={Status.NOT_ANSWERED: "bad", Status.ANSWERED: "ok"},
        link=_link,
    )


def _link(place: str) -> str | None:
    """Return where ``place`` is from the page; None where it is outside the dossier's folder."""
    if place == "card":
        return f"{FILES_FOLDER}/model_card.md"
    if place.startswith("report#"):
        return f"{FILES_FOLDER}/report.html#{place.removeprefix('report#')}"
    for alias in ("results", "decisions", "release"):
        if place.startswith(f"{alias}:/"):
            return f"{FILES_FOLDER}/{alias}.json"
    return None


def _said(said: Said) -> dict[str, object]:
    numbers = [part.figure.number for part in said.parts if part.figure is not None]
    return {"text": said.words, "figures": numbers, "at": said.at}


def _risk(risk: SaidRisk) -> dict[str, object]:
    return {
        "id": risk.id,
        "hazard": risk.hazard,
        "sequence_of_events": risk.sequence,
        "hazardous_situation": risk.situation,
        "harm": risk.harm,
        "severity": risk.severity,
        "probability": _said(risk.probability),
        "controls": [_said(control) for control in risk.controls],
        "residual_risk": risk.residual,
        "evidence": _said(risk.evidence),
    }


def _item(item: SaidItem) -> dict[str, object]:
    return {
        "number": item.number,
        "section": item.section,
        "topic": item.topic,
        "status": str(item.status),
        **_said(item.said),
    }


def _plan(dossier: Dossier) -> dict[str, object]:
    plan = dossier.plan
    return {
        "source": plan.source,
        "baseline": _said(plan.baseline),
        "modifications": [
            {
                "id": each.id,
                "title": each.title,
                "description": each.description,
                "protocol": {part: _said(each.protocol[part]) for part in PROTOCOL},
                "impact": {"benefit": each.benefit, "risk": each.risk, "mitigation": each.mitigation},
            }
            for each in plan.modifications
        ],
        "excluded": plan.excluded,
        "cumulative_impact": plan.cumulative,
        "missing": plan.missing,
    }


def _figure(figure: Figure) -> dict[str, object]:
    return {
        "number": figure.number,
        "file": f"{FILES_FOLDER}/{figure.file}",
        "key": figure.key,
        "interval_key": figure.interval_key,
        "shown": figure.shown,
        "value": figure.value,
    }
