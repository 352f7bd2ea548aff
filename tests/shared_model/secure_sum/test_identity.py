"""Identities against RFC 8032; statements never mean two things."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import ProtocolError
from shared_model.secure_sum.identity import Identity, require_signed, statement

SECRET = bytes(range(32))
# Few letters, so that the search finds parts that would run into each other.
TEXT = st.text(alphabet="ab1", max_size=3) | st.text(max_size=3)
PARTS = st.lists(
    TEXT | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.integers(-300, 300), max_size=4
)


def test_a_statement_is_written_as_documented():
    assert statement("k", "é", b"\0", 256, -1) == (
        b"s\0\0\0\0\0\0\0\x22federated-mammography secure sum 1"
        b"s\0\0\0\0\0\0\0\x01k"
        b"s\0\0\0\0\0\0\0\x02\xc3\xa9"
        b"b\0\0\0\0\0\0\0\x01\0"
        b"i\0\0\0\0\0\0\0\x02\x01\0"
        b"i\0\0\0\0\0\0\0\x01\xff"
    )


@given(TEXT, PARTS, TEXT, PARTS)
def test_different_statements_are_different_bytes(kind, parts, other_kind, other_parts):
    # Compared with their types: "a" and b"a" are different parts, and so are "1" and 1.
    is_same = (kind, parts) == (other_kind, other_parts)
    assert (statement(kind, *parts) == statement(other_kind, *other_parts)) == is_same


@given(st.integers() | st.integers(-(2**70), 2**70), st.integers())
def test_different_numbers_are_different_bytes(first, second):
    assert (statement("k", first) == statement("k", second)) == (first == second)


@pytest.mark.parametrize("part", [True, 1.0, None, bytearray(1), ("a",)])
def test_other_parts_are_a_mistake(part):
    with pytest.raises(TypeError, match="Expected text, bytes or a whole number in a statement"):
        statement("k", part)


def test_an_identity_is_derived_as_rfc_5869_has_it():
    pseudo_random = hmac.digest(bytes(32), SECRET, "sha256")
    seed = hmac.digest(pseudo_random, statement("identity") + b"\x01", "sha256")
    key = Ed25519PrivateKey.from_private_bytes(seed)
    assert Identity.from_secret(SECRET).public == key.public_key().public_bytes_raw()
    assert Identity.from_secret(SECRET).sign(b"x") == key.sign(b"x")


def test_rfc_8032_test_2():
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    require_signed(public, b"\x72", signature)
    with pytest.raises(ProtocolError, match="Expected a statement signed by the site that it names"):
        require_signed(public, b"\x73", signature)


@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_a_changed_signature_is_refused(position):
    identity = Identity.from_secret(SECRET)
    signature = bytearray(identity.sign(b"x"))
    require_signed(identity.public, b"x", bytes(signature))
    signature[position] ^= 1
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        require_signed(identity.public, b"x", bytes(signature))


@pytest.mark.parametrize("public", [bytes(31), bytes(33), b""])
def test_a_malformed_identity_or_signature_is_refused(public):
    with pytest.raises(ProtocolError, match="Expected an identity of 32 bytes"):
        require_signed(public, b"x", bytes(64))
    with pytest.raises(ProtocolError, match="Expected a signature of 64 bytes"):
        require_signed(bytes(32), b"x", public)


def test_another_identity_did_not_sign():
    first, second = Identity.from_secret(SECRET), Identity.from_secret(hashlib.sha256(SECRET).digest())
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        require_signed(second.public, b"x", first.sign(b"x"))


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_secret_has_32_bytes(length):
    with pytest.raises(ValueError, match="Expected a secret of length"):
        Identity.from_secret(bytes(length))


def test_an_identity_does_not_print_its_key():
    assert SECRET.hex() not in repr(vars(Identity.from_secret(SECRET)))
