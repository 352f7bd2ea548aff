"""Signatures: of this document, by this key, under this authority; anything else is refused."""

import hashlib
import ssl

import pytest

from shared_model.errors import ReleaseError
from shared_model.release.signature import digest_of, sign, verify
from tests.releases import keys


def test_a_signature_of_the_federation_is_accepted_with_and_without_its_authority():
    (key, certificate), authority = keys()
    found = {verify(b"x", sign(b"x", key), certificate=certificate, authority=each) for each in (authority, None)}
    assert len(found) == 1


def test_another_document_key_or_authority_is_refused():
    (key, certificate), authority = keys()
    (other_key, other_certificate), other_authority = keys()
    for document, signer, shown in ((b"y", key, certificate), (b"x", other_key, certificate)):
        with pytest.raises(ReleaseError, match="changed, or signed with another key"):
            verify(b"x", sign(document, signer), certificate=shown, authority=authority)
    with pytest.raises(ReleaseError, match="from somebody else"):
        verify(b"x", sign(b"x", other_key), certificate=other_certificate, authority=authority)
    with pytest.raises(ReleaseError, match="from somebody else"):
        verify(b"x", sign(b"x", key), certificate=certificate, authority=other_authority)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_or_signature_is_refused(content):
    (key, certificate), authority = keys()
    with pytest.raises(ReleaseError, match="as PEM"):
        verify(b"x", sign(b"x", key), certificate=content, authority=authority)
    with pytest.raises(ReleaseError, match="changed, or signed"):
        verify(b"x", content, certificate=certificate, authority=authority)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09"),
        (bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0277")),
        (bytes.fromhex("06052b81040022"), bytes.fromhex("06052b81040077")),
    ],
    ids=["version", "kind of key", "curve"],
)
def test_a_certificate_that_this_machine_cannot_use_is_refused(here, there):
    (key, certificate), authority = keys()
    content = ssl.PEM_cert_to_DER_cert(certificate.decode())
    assert here in content
    changed = ssl.DER_cert_to_PEM_cert(content.replace(here, there)).encode()
    for each in (authority, None):
        with pytest.raises(ReleaseError, match="Expected"):
            verify(b"x", sign(b"x", key), certificate=changed, authority=each)


def test_the_digest_is_sha256():
    assert digest_of(b"x") == hashlib.sha256(b"x").hexdigest()
