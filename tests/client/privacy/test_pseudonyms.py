"""Keyed hashes of patients: the same for the same patient and key, and telling nothing without the key."""

import hashlib
import hmac
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.identifiers import fold_identifier, folded_or_none
from client.privacy import pseudonyms
from client.privacy.pseudonyms import Cohort, SiteKey
from shared_model.errors import LedgerError

SECRET = bytes(range(32))
PATIENTS = st.lists(st.from_regex(r"p[0-9a-z]{0,6}", fullmatch=True), max_size=8).map(
    lambda names: [name for name in names if folded_or_none(name) is not None]
)


@given(PATIENTS)
def test_a_pseudonym_is_a_truncated_hmac_of_the_folded_identifier(patients):
    folded = [fold_identifier(patient) for patient in patients]
    expected = {hmac.new(SECRET, b"patient\0" + p.encode(), hashlib.sha256).digest()[:16] for p in folded}
    assert SiteKey(SECRET).cohort(patients).members == expected


@pytest.mark.parametrize("respelt", ["p12", " P_12", "P-12"])
def test_spellings_are_told_apart_where_pseudonyms_are_not(respelt):
    key = SiteKey(SECRET)
    same = key.pseudonym("P12") == key.pseudonym(respelt)
    assert same == (fold_identifier("P12") == fold_identifier(respelt))
    assert key.spelling("P12") != key.spelling(respelt)
    assert key.spelling("P12") == key.spelling(" P12 ")
    assert key.spelling("P12") != key.pseudonym("P12")


def test_an_identifier_that_names_nobody_has_no_pseudonym():
    with pytest.raises(ValueError, match="Expected an identifier that names a patient"):
        SiteKey(SECRET).cohort(["P12", ""])


def test_a_pseudonym_is_computed_once_and_memory_is_bounded(monkeypatch):
    key, digest, computed = SiteKey(SECRET), hmac.digest, []
    monkeypatch.setattr(pseudonyms.hmac, "digest", lambda *arguments: computed.append(1) or digest(*arguments))
    monkeypatch.setattr(pseudonyms, "_MAX_PSEUDONYMS", 3)
    patients = ["P1", "P2", "p 1"]
    first = [key.pseudonym(patient) for patient in patients]
    assert first == [key.pseudonym(patient) for patient in patients] == [SiteKey(SECRET).pseudonym(p) for p in patients]
    assert len(computed) == 3 + 3
    for number in range(10):
        key.pseudonym(f"Q{number}")
    assert len(computed) == 16
    assert key.pseudonym("P1") == first[0]
    assert len(computed) == 17


@pytest.mark.parametrize("length", [1, 15, 17])
def test_what_is_no_pseudonym_makes_no_cohort(length):
    with pytest.raises(ValueError, match=f"Expected pseudonyms of 16 bytes, got {length} bytes in all"):
        Cohort.from_pseudonyms([bytes(length)])


@given(st.sets(st.binary(min_size=16, max_size=16), max_size=8), st.data())
def test_a_cohort_without_some_of_its_members(members, data):
    cohort = Cohort.from_pseudonyms(members)
    leaving = data.draw(st.frozensets(st.sampled_from(sorted(members) or [bytes(16)])))
    assert cohort.without(leaving) == Cohort.from_pseudonyms(members - leaving)
    assert len(cohort.without(leaving)) == len(members - leaving)


def test_witness_and_roles_are_keyed_and_apart():
    first, second = SiteKey(SECRET), SiteKey(bytes(32))
    assert first.witness("digest") == SiteKey(SECRET).witness("digest") != second.witness("digest")
    assert first.role_secret == SiteKey(SECRET).role_secret != second.role_secret
    assert len({first.check, first.witness(""), first.role_secret.hex()}) == 3


@given(PATIENTS, st.randoms())
def test_order_and_repeats_do_not_matter(patients, random):
    shuffled = [*patients, *patients]
    random.shuffle(shuffled)
    assert SiteKey(SECRET).cohort(shuffled) == SiteKey(SECRET).cohort(patients)


@given(st.sets(st.binary(min_size=16, max_size=16), max_size=8))
def test_the_fingerprint_is_the_hash_of_the_sorted_members(members):
    cohort = Cohort.from_pseudonyms(members)
    assert cohort.members == members
    assert cohort.fingerprint == hashlib.sha256(b"".join(sorted(members))).hexdigest()


def test_nobody_is_a_cohort():
    assert SiteKey(SECRET).cohort([]).fingerprint == hashlib.sha256(b"").hexdigest()


def test_another_key_shares_no_pseudonym():
    first, second = (SiteKey(secret).cohort(["a", "b"]) for secret in (SECRET, bytes(32)))
    assert first.members.isdisjoint(second.members)


def test_the_check_tells_keys_apart_and_is_no_pseudonym():
    assert SiteKey(SECRET).check == SiteKey(SECRET).check != SiteKey(bytes(32)).check
    assert not any(SiteKey(SECRET).check.startswith(m.hex()) for m in SiteKey(SECRET).cohort(["ledger"]).members)


def test_a_key_is_written_for_its_owner_and_read_again(tmp_path):
    path = tmp_path / "deep" / "key"
    key = SiteKey.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == 32
    assert SiteKey.load(path).check == key.check
    assert SiteKey.create(tmp_path / "another").check != key.check


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length(tmp_path, length):
    (tmp_path / "key").write_bytes(bytes(length))
    with pytest.raises(LedgerError, match=f"Expected a site key of length={length} == 32 bytes"):
        SiteKey.load(tmp_path / "key")


def test_the_secrets_of_roles_and_identity_differ_and_stay_the_same():
    key = SiteKey(SECRET)
    assert key.identity_secret == SiteKey(SECRET).identity_secret
    assert len({key.identity_secret, key.role_secret, SECRET, SiteKey(bytes(32)).identity_secret}) == 4
    assert len(key.identity_secret) == 32
