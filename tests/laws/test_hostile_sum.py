"""The law of secure sums: whatever a coordinator asks of real hospitals, it opens one sum a round, of enough of them.

The coordinator shows every site the lists that it likes, repeats and changes what it asked, and restarts sites. One
hospital colludes: its secret is known, and all that is sealed for it. In the end the coordinator tries every sum that
its seeds and shares can open, and each opened one is compared with what the sites masked.
"""

import dataclasses
import hashlib
import itertools
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from flwr.app import RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

import client.app
import client.site
from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Reserved
from client.secure_sum import answers, release, roster_check
from shared_model.config.fingerprints import config_fingerprint
from shared_model.messages.sum_parts import AGREE, KEYS, SHARES, UNMASK, SumParts
from shared_model.messages.sum_records import (
    unpack_advert_reply,
    unpack_agree_reply,
    unpack_masked_reply,
    unpack_offer_reply,
    unpack_unmask_reply,
)
from shared_model.messages.types import SCORES
from shared_model.secure_sum import masks, participants
from shared_model.secure_sum.identity import Identity, statement
from shared_model.secure_sum.masks import mask
from shared_model.secure_sum.participants import Participants, sign_masked
from shared_model.secure_sum.roster import Roster, advertise
from shared_model.secure_sum.round_keys import RoundSeeds, SeedShares, make_offer, mask_private_key, open_shares
from shared_model.secure_sum.shamir import combine
from tests.laws.conftest import COLUMNS, Site
from tests.laws.test_hostile_coordinator import NEIGHBOURS
from tests.summing_hospitals import Hospital, make_consortium, quietly

MAX_EXAMPLES = int(os.environ.get("LAW_EXAMPLES", "50")) // 5
TRIED = []
"""Of every example, whether a question was refused, and whether a sum was opened."""
HONEST, COLLUDING = ("A", "B", "C"), "D"
NAMES = (*HONEST, COLLUDING)
FEWEST = NEEDED = 3
"""Sites of a sum, and shares of a seed, with four sites of which one colludes."""
RELEASES = {1: "train", 2: "train", 3: SCORES, 4: "evaluate"}
"""By round of a run of two rounds."""
REFUSED = {
    "the site could not accept the request",
    "the site's privacy budget does not allow it",
    "the site's policy does not allow it",
}
ALL, WITHOUT_C, POSED, ALONE, OTHER_SIZE = "all", "without C", "somebody poses as C", "A alone", "D tells another size"
POSING = {POSED: ("C",), ALONE: ("B", "C")}
"""By kind of roster: as whom the coordinator poses."""
UNCHANGED, OTHER_PARAMETERS, SWAPPED, ALTERED = "nothing", "parameters", "two seals", "a bit of a seal"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """One message to one site."""

    site: str
    kind: str
    """Of message; "release" stands for the one of the round, "restart" for no message."""
    server_round: int = 1
    run: int = 0
    roster: str = ALL
    absent: frozenset[str] = frozenset()
    """Of the participants."""
    dropped: frozenset[str] = frozenset()
    """Of those whose values are said to have arrived."""
    changed: str = UNCHANGED


def secret_of_impostor(name):
    return hashlib.sha256(name.encode()).digest()


class Coordinator:
    """What it asks, what it gets, and what it can make of it."""

    def __init__(self, consortium, both):
        self._consortium, self._configs = consortium, both
        self._colluder = Ledger(consortium.hospitals[COLLUDING].ledger).identity_secret
        self._adverts, self._rosters, self._own = {}, {}, {}
        self._offers, self._sealed, self._masked, self._agreed = {}, {}, {}, {}
        self.vectors, self.shares, self._secret_seeds = {}, {}, {}
        """Vectors by participants and site; shares by mask key and kind; and the seeds of those whom it speaks for."""
        self.num_refused = 0

    def roster(self, ask):
        """The roster of a lie, and the secrets of those on it for whom the coordinator speaks."""
        key = (ask.run, ask.roster)
        if key not in self._rosters:
            run = config_fingerprint(self._configs[ask.run])
            secrets = {
                COLLUDING: self._colluder,
                **{name: secret_of_impostor(name) for name in POSING.get(ask.roster, ())},
            }
            sizes = {COLLUDING: 30 if ask.roster == OTHER_SIZE else 20}
            names = [name for name in NAMES if (ask.roster, name) != (WITHOUT_C, "C")]
            adverts = [self._advert(run, name, secrets.get(name), sizes.get(name, 20), ask.run) for name in names]
            self._rosters[key] = Roster(run=run, adverts=tuple(adverts)), secrets
        return self._rosters[key]

    def _advert(self, run, name, secret, size, number):
        if secret is not None:
            return advertise(Identity.from_secret(secret), run=run, site=name, num_patients=size, secret=secret)
        if (run, name) not in self._adverts:
            request = self._request(Ask(site=name, kind=KEYS, run=number), SumParts())
            self._adverts[run, name] = unpack_advert_reply(self._send(name, request, KEYS)).advert
        return self._adverts[run, name]

    def participants(self, ask):
        """Those whose offers for this roster and round are known, without the absent; None if they are too few."""
        roster, secrets = self.roster(ask)
        for name, secret in secrets.items():
            if (roster.digest, ask.server_round, name) not in self._offers:
                seeds = RoundSeeds.draw()
                offer, sealed = make_offer(
                    Identity.from_secret(secret), secret, roster, name, ask.server_round, seeds, NEEDED
                )
                self._keep_offer(roster, ask.server_round, offer, sealed)
                self._secret_seeds[offer.mask_key] = seeds
        names = [name for name in roster.sites if name not in ask.absent]
        found = [self._offers.get((roster.digest, ask.server_round, name)) for name in names]
        offers = tuple(offer for offer in found if offer is not None)
        return Participants(roster=roster, server_round=ask.server_round, offers=offers) if len(offers) > 1 else None

    def _keep_offer(self, roster, server_round, offer, sealed):
        self._offers[roster.digest, server_round, offer.site] = offer
        self._sealed[offer.mask_key] = sealed
        for name, secret in next(each[1] for each in self._rosters.values() if each[0] == roster).items():
            sent = {offer.site: sealed[name]}
            opened = open_shares(secret, roster, name, server_round, [offer], sent)[offer.site]
            for kind in ("own", "mask"):
                self._keep_share(offer.mask_key, kind, roster.position(name), getattr(opened, kind))

    def _keep_share(self, mask_key, kind, position, share):
        self.shares.setdefault((mask_key, kind), {})[position] = share

    def ask(self, ask):
        """Send what ``ask`` says; return what an observer sees of the answer."""
        if ask.kind == "restart":
            client.site._open_ledger.cache_clear()
            client.site._DATA.clear()
            return None
        self.roster(ask)
        taking_part = self.participants(ask)
        if ask.kind != SHARES and taking_part is None:
            return None
        steps = {SHARES: self._offer, "release": self._release, AGREE: self._agree, UNMASK: self._unmask}
        return observed(steps[ask.kind](ask, taking_part))

    def _offer(self, ask, _):
        roster, _ = self.roster(ask)
        answer = self._send(ask.site, self._request(ask, SumParts(adverts=roster.adverts)), SHARES)
        if isinstance(answer, RecordDict):
            reply = unpack_offer_reply(answer)
            self._keep_offer(roster, ask.server_round, reply.offer, dict(reply.sealed))
        return answer

    def _release(self, ask, taking_part):
        sealed = {offer.site: self._sealed[offer.mask_key].get(ask.site, b"") for offer in taking_part.offers}
        if ask.changed == SWAPPED:
            sealed = dict(zip(sealed, reversed(sealed.values()), strict=True))
        elif ask.changed == ALTERED and sealed.get(COLLUDING):
            sealed[COLLUDING] = sealed[COLLUDING][:-1] + bytes([sealed[COLLUDING][-1] ^ 1])
        request = self._request(ask, self._parts(taking_part, sealed=sealed), whole=True)
        answer = self._send(ask.site, request, RELEASES[ask.server_round])
        if isinstance(answer, RecordDict):
            reply = unpack_masked_reply(answer)
            self._masked[taking_part.digest, ask.site] = reply.signature
            self.vectors.setdefault((taking_part, ask.site), {})[reply.values.tobytes()] = reply.values
        return answer

    def _agree(self, ask, taking_part):
        survivors, masked = self._survivors(ask, taking_part)
        answer = self._send(ask.site, self._request(ask, self._parts(taking_part, masked=masked)), AGREE)
        if isinstance(answer, RecordDict):
            self._agreed.setdefault((taking_part.digest, survivors), {})[ask.site] = unpack_agree_reply(
                answer
            ).signature
        return answer

    def _unmask(self, ask, taking_part):
        survivors, masked = self._survivors(ask, taking_part)
        agreed = dict(self._agreed.get((taking_part.digest, survivors), {}))
        for name, secret in self.roster(ask)[1].items():
            content = statement("survivors", taking_part.digest, name, *survivors)
            agreed[name] = Identity.from_secret(secret).sign(content)
        answer = self._send(
            ask.site, self._request(ask, self._parts(taking_part, masked=masked, agreed=agreed)), UNMASK
        )
        if isinstance(answer, RecordDict):
            reply, position = unpack_unmask_reply(answer), taking_part.roster.position(ask.site)
            for kind in ("own", "mask"):
                for name, share in getattr(reply, kind).items():
                    self._keep_share(taking_part.mask_key(name), kind, position, share)
        return answer

    def _survivors(self, ask, taking_part):
        secrets = self.roster(ask)[1]
        masked = {}
        for name in taking_part.sites:
            if name in secrets:
                masked[name] = sign_masked(Identity.from_secret(secrets[name]), taking_part, name)
            else:
                masked[name] = self._masked.get((taking_part.digest, name), bytes(64))
        masked = {name: signature for name, signature in masked.items() if name not in ask.dropped}
        return tuple(sorted(masked)), masked

    def _parts(self, taking_part, **parts):
        return SumParts(adverts=taking_part.roster.adverts, offers=taking_part.offers, **parts)

    def _request(self, ask, parts, *, whole=False):
        config, changes = self._configs[ask.run], {} if whole else {"parameters": {}, "constants": {}}
        request = self._consortium.request(config, ask.server_round, sum_parts=parts, **changes)
        if whole and ask.changed == OTHER_PARAMETERS:
            other = {name: array + np.float32(0.01) for name, array in request.parameters.items()}
            return dataclasses.replace(request, parameters=other)
        return request

    def _send(self, name, request, kind):
        hospital = self._consortium.hospitals[name]
        answer = Site(context=hospital.context, folder=hospital.folder).ask(request, kind)
        if not isinstance(answer, RecordDict):
            assert answer.reason in REFUSED
            self.num_refused += 1
        return answer

    def seed(self, taking_part, name, kind):
        """The seed of a site in a round, None where the coordinator does not know it."""
        key = taking_part.mask_key(name)
        if key in self._secret_seeds:
            return getattr(self._secret_seeds[key], kind)
        shares = self.shares.get((key, kind), {})
        if len(shares) < NEEDED:
            return None
        seed = combine(shares, NEEDED)
        if kind == "mask":
            private = mask_private_key(seed, taking_part.roster, name, taking_part.server_round)
            assert private.public_key().public_bytes_raw() == key
        return seed

    def is_foe(self, taking_part, name):
        """Whether the coordinator speaks for the site, whose values it knows anyway."""
        return taking_part.mask_key(name) in self._secret_seeds

    def openable(self, taking_part):
        """Every set of honest sites of whose vectors the coordinator can compute the sum."""
        released = [site for each, site in self.vectors if each == taking_part]
        for size in range(1, len(released) + 1):
            for sites in itertools.combinations(released, size):
                total = self._opened(taking_part, sites)
                if total is not None:
                    yield sites, total

    def _opened(self, taking_part, sites):
        """The sum of the values of ``sites``, None where a mask is missing."""
        total = None
        for site in sites:
            own, key = (self.seed(taking_part, site, kind) for kind in ("own", "mask"))
            if own is None:
                return None
            vector = next(iter(self.vectors[taking_part, site].values()))
            total = vector.copy() if total is None else total + vector
            total -= masks._own_mask(own, taking_part, site, vector.size)
            for other in set(taking_part.sites) - set(sites):
                others_key = self.seed(taking_part, other, "mask")
                if key is None and others_key is None:
                    return None
                ends = (site, key, other) if key is not None else (other, others_key, site)
                words = self._pair_mask(taking_part, *ends, vector.size)
                total = total - words if other > site else total + words
        return total

    def _pair_mask(self, taking_part, site, seed, partner, size):
        private = mask_private_key(seed, taking_part.roster, site, taking_part.server_round)
        return masks._pair_mask(private, taking_part, site, partner, size)


def observed(answer):
    """What an observer sees of an answer but keys, seals, signatures and masked values, which have fixed lengths."""
    if not isinstance(answer, RecordDict):
        return "refused", answer.code, answer.reason
    facts = {
        name: {
            key: len(value) if isinstance(value, bytes) or key in {"witness", "previous-witness"} else value
            for key, value in record.items()
        }
        for name, record in answer.config_records.items()
    }
    arrays = {
        (name, key): (array.dtype, tuple(array.shape), len(array.data))
        for name, record in answer.array_records.items()
        for key, array in record.items()
    }
    return "answered", facts, arrays, sorted(answer)


class BrokenError(AssertionError):
    """The law does not hold."""


def require(is_so, message):
    if not is_so:
        raise BrokenError(message)


def require_law(coordinator, consortium, before_masking):
    """Check what the coordinator can open, and that every release was paid for."""
    sums = {}
    for taking_part in {each for each, _ in coordinator.vectors}:
        for sites, total in coordinator.openable(taking_part):
            plain = sum((before_masking[taking_part.digest, site] for site in sites), np.zeros_like(total))
            np.testing.assert_array_equal(total, plain)
            colluding = COLLUDING in taking_part.sites
            require(len(sites) + colluding >= FEWEST, f"opened a sum over {sites}")
            sums.setdefault((taking_part.roster.run, taking_part.server_round), set()).add((taking_part, sites))
        for name in taking_part.sites:
            if not coordinator.is_foe(taking_part, name):
                both = (coordinator.seed(taking_part, name, kind) is not None for kind in ("own", "mask"))
                require(not all(both), f"both seeds of {name}")
    for opened in sums.values():
        require(len(opened) == 1, f"opened {len(opened)} sums of one round")
    for (taking_part, site), vectors in coordinator.vectors.items():
        require(len(vectors) == 1, f"{site} released two vectors under the masks of round {taking_part.server_round}")
    for name in HONEST:
        entries = [entry.content for entry in read_history(consortium.hospitals[name].ledger).entries]
        num_reserved = sum(isinstance(entry, Reserved) for entry in entries)
        released = {vector for (_, site), vectors in coordinator.vectors.items() if site == name for vector in vectors}
        require(num_reserved >= len(released), f"{name} released what it did not reserve")
    return sums


def of_all(kind, **changes):
    return [Ask(site=site, kind=kind, **changes) for site in HONEST]


@st.composite
def lies(draw):
    """A round, asked step by step, and every step again: most questions as they should be."""
    rounds = draw(
        st.lists(st.tuples(st.sampled_from((1, 1, 4)), st.integers(0, 1)), min_size=1, max_size=2, unique=True)
    )
    usual = draw(st.sampled_from((ALL, ALL, WITHOUT_C)))
    some = st.sampled_from((frozenset(), frozenset(), frozenset("B"), frozenset("C"), frozenset("BC"), frozenset("D")))
    list_of_all = draw(some)
    asks = []
    for (server_round, run), kind in itertools.product(rounds, (SHARES, "release", AGREE, UNMASK)):
        for site in draw(st.permutations(HONEST * 2)):
            is_usual = draw(st.integers(0, 3)) > 0
            asks.append(
                Ask(
                    site=site,
                    kind=kind,
                    server_round=server_round,
                    run=run,
                    roster=usual if is_usual else draw(st.sampled_from((ALL, WITHOUT_C, POSED, ALONE, OTHER_SIZE))),
                    absent=frozenset() if is_usual else draw(some),
                    dropped=list_of_all if is_usual else draw(some),
                    changed=UNCHANGED
                    if is_usual
                    else draw(st.sampled_from((UNCHANGED, OTHER_PARAMETERS, SWAPPED, ALTERED))),
                )
            )
            if draw(st.integers(0, 9)) == 0:
                asks.append(Ask(site=site, kind="restart"))
    return asks


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Hospitals to be copied, and the configurations of two runs."""
    consortium = make_consortium(tmp_path_factory.mktemp("template"), NAMES)
    first = consortium.config("federation.max_colluding=1", min_sites=FEWEST)
    return consortium, (first, dataclasses.replace(first, seed=first.seed + 1))


@pytest.fixture
def copied(template, tmp_path_factory):
    """A new coordinator before copies of the hospitals."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    consortium, both = template

    def copy():
        folder = tmp_path_factory.mktemp("copy")
        hospitals = {}
        for name, hospital in consortium.hospitals.items():
            home = folder / name
            shutil.copytree(hospital.folder, home)
            node = {
                key: value.replace(str(hospital.folder), str(home))
                for key, value in hospital.context.node_config.items()
            }
            context = dataclasses.replace(hospital.context, node_config=node, state=RecordDict())
            hospitals[name] = Hospital(name=name, context=context, folder=home)
        found = dataclasses.replace(consortium, hospitals=hospitals, folder=folder)
        return found, Coordinator(found, both)

    with quietly():
        yield copy


@pytest.fixture
def before_masking(monkeypatch):
    """What sites masked, by digest of the participants and site."""
    values = {}

    def note_and_mask(words, seeds, taking_part, site):
        # An empty vector asks whether masking would refuse.
        if words.size:
            values.setdefault((taking_part.digest, site), words.copy())
        return mask(words, seeds, taking_part, site)

    monkeypatch.setattr(release, "mask", note_and_mask)
    return values


def outcome(copied, before_masking, asks):
    consortium, coordinator = copied()
    before_masking.clear()
    for ask in asks:
        coordinator.ask(ask)
    sums = require_law(coordinator, consortium, before_masking)
    shutil.rmtree(consortium.folder)
    return coordinator, sums


@pytest.mark.slow
@settings(
    max_examples=MAX_EXAMPLES,
    deadline=None,
    # A whole federation is asked each time: shrinking would take hours.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(asks=lies())
def test_no_lies_open_a_sum_of_too_few_or_two_of_a_round(copied, before_masking, asks):
    coordinator, sums = outcome(copied, before_masking, asks)
    note(f"refused {coordinator.num_refused}, opened {len(sums)}")
    TRIED.append((coordinator.num_refused > 0, len(sums) > 0))


@pytest.mark.slow
def test_lies_were_refused_and_sums_were_opened_all_the_same():
    """Else the law would hold for want of answers."""
    assert all(map(any, zip(*TRIED, strict=True)))


def test_the_truth_opens_the_sum_over_all(copied, before_masking):
    """Else the law would hold since nothing can be opened."""
    asks = [*of_all(SHARES), *of_all("release"), *of_all(AGREE), *of_all(UNMASK)]
    _, sums = outcome(copied, before_masking, asks)
    ((opened,),) = sums.values()
    assert opened[1] == HONEST


def both_kinds(request, site):
    """Return, as a site must not, both shares of every participant."""
    reply = answers.unmask_locally(request, site)
    known = site.ledger.settle_sum(
        config_fingerprint(request.config), request.server_round, lambda rounds: rounds[request.server_round]
    )
    shares: dict[str, SeedShares] = answers._shares_from_bytes(known.shares)
    return dataclasses.replace(
        reply,
        own={name: each.own for name, each in shares.items()},
        mask={name: each.mask for name, each in shares.items()},
    )


JOINED = [*of_all(SHARES), *of_all("release")]
NOT_B, NOT_BC = {"dropped": frozenset("B")}, {"dropped": frozenset("BC")}
FAULTS = {
    "a second list of survivors is signed": (
        [(answers, "_list_digest", lambda _: b"any")],
        [*JOINED, *of_all(AGREE), *of_all(AGREE, **NOT_B), *of_all(UNMASK), *of_all(UNMASK, **NOT_B)],
        "opened a sum over|both seeds of B",
    ),
    "another request gets the same masks": (
        [(answers, "request_digest", lambda _: "any")],
        [*JOINED, *of_all("release", changed=OTHER_PARAMETERS)],
        "released two vectors under the masks of round 1",
    ),
    "strangers pose as partners": (
        [(roster_check, "_partners", lambda _: None)],
        [Ask(site="A", kind=kind, roster=ALONE) for kind in (SHARES, "release", AGREE, UNMASK)],
        r"opened a sum over \('A',\)",
    ),
    "both shares of a site leave": (
        [(client.app, "unmask_locally", both_kinds)],
        [*JOINED, *of_all(AGREE), *of_all(UNMASK)],
        "opened a sum over|both seeds of",
    ),
    "fewer sites than agreed are enough": (
        [(participants, "_require_enough", lambda *_: None)],
        [*JOINED, *of_all(AGREE, **NOT_BC), *of_all(UNMASK, **NOT_BC)],
        r"opened a sum over \('A',\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_law_notices_a_planted_fault_and_nothing_where_there_is_none(fault, copied, before_masking, monkeypatch):
    patches, asks, message = FAULTS[fault]
    coordinator, _ = outcome(copied, before_masking, asks)
    assert coordinator.num_refused or "both shares" in fault
    for module, name, planted in patches:
        monkeypatch.setattr(module, name, planted)
    with pytest.raises(BrokenError, match=message):
        outcome(copied, before_masking, asks)


@pytest.mark.parametrize(
    "neighbour", ["a training patient with many lesions", "a test patient", "a label that is none", "nobody's row"]
)
def test_two_hospitals_that_differ_by_one_patient_look_alike_in_every_message_of_a_sum(copied, neighbour):
    asks = [
        *(
            ask
            for number in (1, 3, 4)
            for kind in (SHARES, "release", AGREE, UNMASK)
            for ask in of_all(kind, server_round=number)
        ),
        *of_all(AGREE, **NOT_B),
        Ask(site="B", kind="release", changed=OTHER_PARAMETERS),
        Ask(site="B", kind=SHARES, roster=OTHER_SIZE),
        Ask(site="B", kind="release", server_round=2),
    ]
    consortium, one = copied()
    larger, other = copied()
    table = larger.hospitals["B"].folder / "table.csv"
    more = pd.DataFrame(NEIGHBOURS[neighbour], columns=list(COLUMNS))
    pd.concat([pd.read_csv(table), more]).to_csv(table, index=False)
    assert table.read_bytes() != (consortium.hospitals["B"].folder / "table.csv").read_bytes()
    kinds = set()
    for ask in asks:
        first, second = one.ask(ask), other.ask(ask)
        assert first == second
        kinds.add((ask.kind, first and first[0]))
    assert {(kind, "answered") for kind in (SHARES, "release", AGREE, UNMASK)} <= kinds
    assert (AGREE, "refused") in kinds
