"""The catalogue: whole checklists, known facts, and every file, test, section and command that it names."""

import contextlib
import dataclasses
import re
from pathlib import Path

import click
import pytest

from server.dossier.assembly import PROTOCOL
from server.dossier.catalogue import Checklist, Item, ItemAnswer, Risk, Statement, Status, chosen, load_catalogue
from server.dossier.facts import facts_of
from server.report.stored_run import StoredRun
from shared_model.config import compose
from shared_model.release.document import MODEL_CARD_FILE, MODEL_FILE
from tests.releases import OVERRIDES, document
from tests.test_docs import anchors, parse

ROOT = Path(__file__).resolve().parents[3]
CATALOGUE = load_catalogue()
TRIPOD_AI = (
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b 18c "
    "18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
)


def alternatives():
    """Every list of statements of which one is said."""
    found = [entry.answers for entry in CATALOGUE.intended_use.entries]
    found += [each for risk in CATALOGUE.risks.risks for each in (risk.probability, risk.evidence)]
    return found + [item.answers for checklist in CATALOGUE.checklists for item in checklist.items]


def places():
    found = {place for answers in alternatives() for answer in answers for place in answer.at}
    found |= {place for risk in CATALOGUE.risks.risks for control in risk.controls for place in control.by}
    changes = CATALOGUE.change_plan.modifications
    return sorted(found | {place for each in changes for part in PROTOCOL for place in getattr(each, f"{part}_by")})


def test_both_checklists_are_whole():
    tripod, claim = CATALOGUE.checklists
    assert [item.number for item in tripod.items] == TRIPOD_AI.split()
    assert [item.number for item in claim.items] == [str(number) for number in range(1, 45)]


@pytest.mark.parametrize("place", places())
def test_what_is_named_is_there(place):
    if place == "card" or place.startswith(("report#", "results:/", "decisions:/", "release:/")):
        return  # Checked whenever a dossier is made.
    if place.startswith("fedmammo "):
        # A command may want arguments; one that does not exist is another error.
        with contextlib.suppress(click.MissingParameter):
            parse(place.split()[1:])
        return
    name, _, test = place.partition("::")
    name, _, anchor = name.partition("#")
    path = ROOT / name
    assert path.is_file(), place
    assert not anchor or anchor in anchors(path.read_text()), place
    assert not test or re.search(rf"def {test}\(", path.read_text()), place


def test_an_unanswered_item_says_why_and_an_answered_one_where():
    for checklist in CATALOGUE.checklists:
        for item in checklist.items:
            for answer in item.answers:
                assert len(answer.text) >= 5
                is_answered = answer.status in (Status.ANSWERED, Status.PARTLY)
                assert answer.at or not is_answered or "[[" in answer.text or item.topic.startswith("Involvement"), item


def test_every_control_names_what_implements_it():
    for risk in CATALOGUE.risks.risks:
        for control in risk.controls:
            assert all(re.match(r"(client|server|shared_model|tests|docs)/|fedmammo ", place) for place in control.by)


def test_every_condition_is_a_known_fact(finished_run):
    config = compose(OVERRIDES)
    release = document(config, {MODEL_FILE: b"", MODEL_CARD_FILE: b""}, is_signed=True)
    facts = facts_of(release, StoredRun.load(finished_run))
    for answers in alternatives():
        for answer in answers:
            assert {fact.removeprefix("not ") for fact in answer.when} <= set(facts)
        chosen(answers, facts)


def test_the_first_whose_conditions_hold_is_said():
    told = [
        Statement(text="both", when=("a", "not b")),
        Statement(text="one", when=("b",)),
        Statement(text="none"),
    ]
    assert chosen(told, {"a": True, "b": False}).text == "both"
    assert chosen(told, {"a": True, "b": True}).text == "one"
    assert chosen(told, {"a": False, "b": False}).text == "none"
    with pytest.raises(KeyError, match="b"):
        chosen(told, {"a": True})


def item(number, *answers):
    return Item(number=number, section="x", topic="y", answers=answers)


ANSWER = ItemAnswer(status=Status.ANSWERED, text="here")


@pytest.mark.parametrize("numbers", [("1", "3"), ("2", "1"), ("1", "2", "3"), ("1",)])
def test_a_checklist_that_is_not_whole_is_refused(numbers):
    with pytest.raises(ValueError, match="to be 1 to 2 in order"):
        Checklist(name="x", source="y", note="z", num_items=2, items=tuple(item(number, ANSWER) for number in numbers))


def test_an_item_that_may_stay_without_an_answer_is_refused():
    sometimes = dataclasses.replace(ANSWER, when=("a",))
    for answers in ((sometimes,), (ANSWER, sometimes), (ANSWER, ANSWER)):
        with pytest.raises(ValueError, match="to end with the one without conditions"):
            item("1", *answers)


def test_a_severity_that_the_scale_has_not_is_refused():
    risk = dataclasses.replace(CATALOGUE.risks.risks[0], severity="bad")
    assert isinstance(risk, Risk)
    with pytest.raises(ValueError, match="to be one of catastrophic, critical"):
        dataclasses.replace(CATALOGUE.risks, risks=(risk,))
