"""The chain under the ledger and the audit logs: every change to an entry, or of its place, is found."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.system.hash_chain import FIRST_PREVIOUS, Link, digest_of, first_broken


def chain_of(contents):
    """Return valid links of ``contents``, written out by hand."""
    links, previous = [], FIRST_PREVIOUS
    for number, content in enumerate(contents, start=1):
        digest = digest_of([number, content, previous])
        links.append(Link(sequence=number, previous=previous, digest=digest, expected_digest=digest))
        previous = digest
    return links


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=4))
def test_digest_is_the_sha_256_of_json_with_sorted_keys(fields):
    text = ", ".join(f"{json.dumps(key)}: {json.dumps(fields[key])}" for key in sorted(fields))
    assert digest_of(fields) == hashlib.sha256(f"{{{text}}}".encode()).hexdigest()


def test_digest_of_a_sequence_keeps_its_order():
    assert digest_of(("a", "b")) == hashlib.sha256(b'["a", "b"]').hexdigest() != digest_of(("b", "a"))


@given(st.lists(st.text(), max_size=6))
def test_a_chain_as_it_was_written_holds(contents):
    assert first_broken(chain_of(contents)) is None


@given(contents=st.lists(st.text(), min_size=2, max_size=6, unique=True), data=st.data())
def test_the_first_change_is_named(contents, data):
    links = chain_of(contents)
    position = data.draw(st.integers(0, len(links) - 1))
    link = links[position]
    edited = Link(sequence=link.sequence, previous=link.previous, digest=link.digest, expected_digest="0")
    assert first_broken([*links[:position], edited, *links[position + 1 :]]) == position + 1
    assert first_broken([*links[:position], link, link, *links[position + 1 :]]) == position + 2
    if position + 1 < len(links):
        assert first_broken([*links[:position], *links[position + 1 :]]) == position + 1
        swapped = [*links[:position], links[position + 1], link, *links[position + 2 :]]
        assert first_broken(swapped) == position + 1


@pytest.mark.parametrize("field", ["sequence", "previous", "digest"])
def test_every_field_counts(field):
    link = chain_of(["one"])[0]
    other = {"sequence": 2, "previous": "1" * 64, "digest": "1" * 64}[field]
    facts = {"sequence": 1, "previous": FIRST_PREVIOUS, "digest": link.digest, "expected_digest": link.digest}
    assert first_broken([Link(**facts | {field: other})]) == 1


def test_an_end_that_was_cut_off_does_not_show():
    assert first_broken(chain_of(["one", "two", "three"])[:2]) is None
