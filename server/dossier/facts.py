"""Facts: what a release and its run have and lack, by the names that the catalogue's conditions use."""

from collections.abc import Mapping

from server.evaluation.second_reader import ReadingRule
from server.report.report_values import worst_errors
from server.report.stored_run import StoredRun
from server.results.document import AurocSource, PrivacyUnit
from server.results.evidence import Level
from shared_model.config.choices import ImageMode, Modality, NoiseSource
from shared_model.release.document import Release

CITED_TARGET = 0.98
"""The sensitivity for which the dossier tells what would be ruled out."""


def facts_of(release: Release, run: StoredRun) -> Mapping[str, bool]:
    """Return every fact by its name."""
    return {**_of_release(release), **_of_results(run), **_of_decisions(run)}


def is_synthetic(configuration: Mapping[str, object]) -> bool:
    """Return whether the patients of a run were made up by ``fedmammo phantom``, as its configuration says."""
    phantom = configuration.get("phantom")
    return isinstance(phantom, Mapping) and phantom.get("num_patients") is not None


def _of_release(release: Release) -> dict[str, bool]:
    contract, public = release.contract, release.public
    has_images = contract.model.modality is not Modality.CLINICAL
    return {
        "signed": release.is_signed,
        "images": has_images,
        "films": has_images and contract.image.mode is not ImageMode.CROP,
        "columns": bool(contract.columns),
        "abstention": public is not None and public.abstention is not None,
        "novelty": public is not None and public.novelty is not None,
        "test_is_public": release.figures is not None,
    }


def _of_results(run: StoredRun) -> dict[str, bool]:
    final, evidence = run.results.final, run.results.evidence
    level = None if evidence is None else evidence.level(Level.LESION)
    groups = () if evidence is None else evidence.groups
    calibration = None if level is None else level.estimate("calibration_error")
    is_holdout = final.auroc_source is AurocSource.SERVER_HOLDOUT
    return {
        "synthetic": is_synthetic(run.configuration),
        "private": run.results.privacy.unit is PrivacyUnit.PATIENT,
        "seeded": run.results.privacy.noise_source is NoiseSource.SEEDED,
        "shipped": run.results.reference is not None,
        "explained": run.explanations is not None,
        "auroc": final.auroc is not None,
        "holdout": is_holdout and final.num_lesions is not None and final.num_patients is not None,
        "rates": level is not None and level.tp is not None and bool(run.decisions.what_if),
        "evidence": level is not None,
        "calibration": calibration is not None and calibration.value is not None,
        "groups": bool(groups),
        "sites": any(group.attribute == "site" for group in groups),
    }


def _of_decisions(run: StoredRun) -> dict[str, bool]:
    decisions = run.decisions
    rules = () if decisions.second_reader is None else decisions.second_reader.rules
    shifted = decisions.what_if
    return {
        "second_reader": bool(rules),
        "referral": any(entry.rule is ReadingRule.REFERRAL for entry in rules),
        "coverage": bool(decisions.coverage),
        # The catalogue cites this target.
        "rule_out": any(row.target_sensitivity == CITED_TARGET for row in decisions.rule_out),
        "what_if": bool(shifted),
        "what_if_ppv": bool(shifted) and shifted[0].rows[0].ppv is not None,
        "errors": bool(worst_errors(run.predictions, run.results.final.threshold)),
    }
