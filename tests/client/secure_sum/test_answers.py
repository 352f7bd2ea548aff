"""What a hospital refuses around a secure sum, what that costs it, and that a refusal changes nothing."""

import dataclasses
import sqlite3
from contextlib import closing

import pytest
import yaml
from flwr.supercore.task_identity import TaskIdentity

from client.site import Site
from shared_model.messages.sum_parts import AGREE, KEYS, SHARES, UNMASK, SumParts
from shared_model.messages.sum_records import unpack_advert_reply, unpack_offer_reply
from shared_model.secure_sum import roster
from tests.laws.conftest import Site as Node
from tests.summing_hospitals import make_consortium, quietly

NAMES = ("A", "B", "C")


@pytest.fixture(autouse=True)
def quiet():
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    with quietly():
        yield


@pytest.fixture
def consortium(tmp_path):
    return make_consortium(tmp_path, NAMES)


def ask(consortium, name, request, kind):
    hospital = consortium.hospitals[name]
    return Node(context=hospital.context, folder=hospital.folder).ask(request, kind)


def without_arrays(consortium, config, **changes):
    return consortium.request(config, parameters={}, constants={}, **changes)


def adverts(consortium, config):
    request = without_arrays(consortium, config, sum_parts=SumParts())
    return tuple(unpack_advert_reply(ask(consortium, name, request, KEYS)).advert for name in consortium.hospitals)


def offers(consortium, config, known, **changes):
    request = without_arrays(consortium, config, sum_parts=SumParts(adverts=known), **changes)
    return [unpack_offer_reply(ask(consortium, name, request, SHARES)) for name in consortium.hospitals]


def release_request(consortium, config, known, offered, name):
    sealed = {offer.site: offer.sealed[name] for offer in offered}
    parts = SumParts(adverts=known, offers=tuple(offer.offer for offer in offered), sealed=sealed)
    return consortium.request(config, sum_parts=parts)


def kept(hospital):
    """All that the ledger keeps of sums."""
    with closing(sqlite3.connect(hospital.ledger)) as connection:
        has_table = connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'sums'").fetchone() != (0,)
        return connection.execute("SELECT * FROM sums").fetchall() if has_table else []


def set_policy(hospital, **changes):
    path = hospital.folder / "policy.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_partners_are_the_other_sites_and_a_hospital_need_not_name_itself(consortium):
    config = consortium.config()
    for hospital in consortium.hospitals.values():
        partners = yaml.safe_load((hospital.folder / "policy.yaml").read_text())["partners"]
        set_policy(hospital, partners={name: each for name, each in partners.items() if name != hospital.name})
    known = adverts(consortium, config)
    assert [offer.site for offer in offers(consortium, config, known)] == list(NAMES)


@pytest.mark.parametrize("server_round", [5, 2**31 - 1, 2**62])
def test_there_are_shares_for_the_rounds_of_the_run_alone(consortium, server_round):
    config = consortium.config()  # two rounds of training, then two sums of histograms
    known = adverts(consortium, config)
    request = without_arrays(consortium, config, server_round=server_round, sum_parts=SumParts(adverts=known))
    assert ask(consortium, "A", request, SHARES).reason == "the site could not accept the request"
    assert not kept(consortium.hospitals["A"])


def test_a_release_beyond_the_budget_is_refused_before_the_round_is_settled(consortium):
    config, hospital = consortium.config(), consortium.hospitals["A"]
    known = adverts(consortium, config)
    request = release_request(consortium, config, known, offers(consortium, config, known), "A")
    before = kept(hospital)
    set_policy(hospital, max_releases=1)
    other = consortium.config("seed=1", run="other")
    others = adverts(consortium, other)
    first = release_request(consortium, other, others, offers(consortium, other, others), "A")
    assert not hasattr(ask(consortium, "A", first, "train"), "reason")
    assert ask(consortium, "A", request, "train").reason == "the site's privacy budget does not allow it"
    assert [row for row in kept(hospital) if row[0] == before[0][0]] == before
    # What is answered already is no new release.
    assert not hasattr(ask(consortium, "A", first, "train"), "reason")


def test_a_site_that_nobody_named_costs_no_signature(consortium, monkeypatch):
    config = consortium.config()
    known = adverts(consortium, config)
    strangers = (*known[:2], dataclasses.replace(known[2], identity=bytes(32)))
    verified = []
    monkeypatch.setattr(roster, "require_signed", lambda *arguments: verified.append(arguments))
    request = without_arrays(consortium, config, sum_parts=SumParts(adverts=strangers))
    assert ask(consortium, "A", request, SHARES).reason == "the site could not accept the request"
    assert not verified


def test_nothing_but_a_release_reads_a_table(consortium, monkeypatch):
    config = consortium.config()
    read = []
    monkeypatch.setattr(Site, "data", property(lambda site: read.append(site) or 1 / 0))
    known = adverts(consortium, config)
    offered = offers(consortium, config, known)
    for kind in (AGREE, UNMASK):
        assert hasattr(ask(consortium, "A", release_request(consortium, config, known, offered, "A"), kind), "reason")
    assert not read


def test_a_request_with_the_parts_of_a_secure_sum_in_a_run_without_is_refused(consortium):
    config = consortium.config("federation.secure_sum=false")
    request = consortium.request(config)
    secure = consortium.config()
    parts = SumParts(adverts=adverts(consortium, secure))
    assert ask(consortium, "A", dataclasses.replace(request, sum_parts=parts), "train").reason == (
        "the site could not accept the request"
    )
    assert not hasattr(ask(consortium, "A", request, "train"), "reason")
