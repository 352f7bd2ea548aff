"""The model card: Markdown whose tables render, with the sections of Mitchell et al. 2019."""

import dataclasses
import re

import pytest

from server.report.model_card import to_model_card
from server.report.stored_run import StoredRun


@pytest.fixture(scope="module")
def run(finished_run):
    return StoredRun.load(finished_run)


def tables_of(card):
    """Rows of cells of every table, the line of dashes left out."""
    blocks = re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE)
    tables = []
    for block in blocks:
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        tables.append([row for row in rows if set(row) != {"---"}])
    return tables


def test_sections(run):
    headings = re.findall(r"^#+ .*$", to_model_card(run), flags=re.MULTILINE)
    assert headings == [
        "# Model card: cbis_mass, seed 0",
        "## Model",
        "## Intended use",
        "## Training data",
        "## Test data",
        "## Metrics",
        "## Groups",
        "## What the scores would decide",
        "## Limits",
    ]


def test_every_table_has_equally_long_rows(run):
    tables = tables_of(to_model_card(run))
    assert len(tables) == 5
    for table in tables:
        assert len({len(row) for row in table}) == 1


def test_the_sites_are_those_of_the_results(run):
    sites, *_ = tables_of(to_model_card(run))
    assert [row[0] for row in sites[1:]] == [site.site for site in run.results.sites]
    assert [row[1] for row in sites[1:]] == [str(site.num_patients_declared) for site in run.results.sites]
    assert [row[2] for row in sites[1:]] == [f"{site.epsilon:.2f}" for site in run.results.sites]


def test_metrics_and_groups_are_those_of_the_results(run):
    _, metrics, groups, *_ = tables_of(to_model_card(run))
    assert [cell.split(" ")[1] for cell in metrics[0][1:]] == ["lesion", "breast", "patient"]
    assert metrics[1][0] == "AUC"
    assert metrics[1][1].startswith(f"{run.results.final.auroc:.3f}")
    assert len(groups) - 1 == len(run.results.evidence.groups)
    assert [row[2] for row in groups[1:]] == [str(group.num_lesions) for group in run.results.evidence.groups]


def test_without_evidence_the_three_metrics_stand_in_a_line(run):
    final = run.results.final
    card = to_model_card(dataclasses.replace(run, results=dataclasses.replace(run.results, evidence=None)))
    assert f"AUC {final.auroc:.3f}, sensitivity {final.sensitivity:.3f}, specificity {final.specificity:.3f}." in card
    assert len(tables_of(card)) == 3
    assert "## Groups" not in card


def test_without_privacy_and_threshold_there_are_dashes_and_no_claim(run):
    results = run.results
    spent = {"epsilon": None, "delta": None, "noise_multiplier": None, "epsilon_by_colluding": ()}
    promise = {"adjacency": None, "mechanism": None, "target_epsilon": None, "noise_source": None}
    at_threshold = ("threshold", "sensitivity", "specificity", "sensitivity_interval", "specificity_interval")
    bare = dataclasses.replace(
        results,
        sites=tuple(dataclasses.replace(site, **spent) for site in results.sites),
        final=dataclasses.replace(results.final, **dict.fromkeys(at_threshold)),
        privacy=dataclasses.replace(results.privacy, unit=type(results.privacy.unit)("none"), **promise),
        rounds=tuple(dataclasses.replace(entry, epsilon=None) for entry in results.rounds),
    )
    card = to_model_card(dataclasses.replace(run, results=bare))
    assert {row[2] for row in tables_of(card)[0][1:]} == {"-"}
    assert "is called malignant" not in card


def test_markdown_is_not_escaped_as_html(run):
    assert "the server's own test file" in to_model_card(run)


def test_it_ends_in_one_line_end(run):
    card = to_model_card(run)
    assert card.endswith("\n")
    assert not card.endswith("\n\n")
