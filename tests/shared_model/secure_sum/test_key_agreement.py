"""X25519 against RFC 7748, HKDF against RFC 5869; points with which nothing is secret are refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shared_model.errors import ProtocolError
from shared_model.secure_sum.key_agreement import derive, private_key, require_public_key, shared_secret

P = 2**255 - 19
LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    P.to_bytes(32, "little"),
    (P + 1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


def test_rfc_7748_section_6_1():
    alice = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    )
    bob = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    assert shared_secret(alice, bob).hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_rfc_5869_test_case_3():
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert derive(b"\x0b" * 22, b"", 42).hex() == expected


def test_every_purpose_has_its_key():
    first, second = (private_key(bytes(16), info).private_bytes_raw() for info in (b"a", b"b"))
    assert first == derive(bytes(16), b"a") != second


@pytest.mark.parametrize("public", LOW_ORDER, ids=lambda public: public[:2].hex())
def test_points_of_low_order_are_refused(public):
    for check in (require_public_key, lambda point: shared_secret(X25519PrivateKey.generate(), point)):
        with pytest.raises(ProtocolError, match="got a point of low order"):
            check(public)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), "0" * 32, None])
def test_what_is_no_key_is_refused(public):
    with pytest.raises(ProtocolError, match="Expected an X25519 public key of 32 bytes"):
        require_public_key(public)


def test_a_key_passes():
    require_public_key(X25519PrivateKey.generate().public_key().public_bytes_raw())
