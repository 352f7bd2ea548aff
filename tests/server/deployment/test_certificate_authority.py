"""Keys and certificates as they are made, read back by the library and checked by its own path validation."""

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from server.deployment.certificate_authority import (
    AUTHORITY_DAYS,
    authority_certificate,
    certificate_pem,
    new_key,
    private_openssh,
    private_pem,
    public_line,
    server_certificate,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOST = "federation.example.org"


@pytest.fixture(scope="module")
def authority_key():
    return new_key()


@pytest.fixture(scope="module")
def authority(authority_key):
    return authority_certificate(authority_key, NOW)


def issue(authority_key, *, key=None, host=HOST, valid_days=90, now=NOW):
    return server_certificate(
        key or new_key(), authority_key=authority_key, hosts=[host], valid_days=valid_days, now=now
    )


def verify(certificate, authority, *, at=NOW, host=HOST):
    try:
        name = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    verifier = PolicyBuilder().store(Store([authority])).time(at).build_server_verifier(name)
    return verifier.verify(certificate, [])


class TestKeys:
    def test_keys_are_on_the_curve_that_flower_asks_for_and_differ(self):
        first, second = new_key(), new_key()
        assert isinstance(first.curve, ec.SECP384R1)
        assert first.private_numbers() != second.private_numbers()

    def test_every_format_holds_the_same_key(self):
        key = new_key()
        numbers = key.private_numbers()
        assert load_pem_private_key(private_pem(key, None), None).private_numbers() == numbers
        assert load_ssh_private_key(private_openssh(key), None).private_numbers() == numbers
        assert load_ssh_public_key(public_line(key, "mgh")).public_numbers() == numbers.public_numbers

    def test_a_public_key_is_one_line_that_ends_in_its_comment(self):
        line = public_line(new_key(), "mgh")
        assert line.startswith(b"ecdsa-sha2-nistp384 ")
        assert line.endswith(b" mgh\n")
        assert line.count(b"\n") == 1
        assert b"PRIVATE" not in line


class TestAuthority:
    def test_it_may_sign_certificates_and_no_handshake(self, authority):
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.value.ca, constraints.value.path_length) == (True, 0)

    def test_it_signs_itself_and_lasts_ten_years(self, authority):
        authority.verify_directly_issued_by(authority)
        assert authority.not_valid_after_utc - NOW == timedelta(days=AUTHORITY_DAYS)

    def test_clocks_that_run_five_minutes_late_accept_it(self, authority, authority_key):
        certificate = issue(authority_key)
        verify(certificate, authority, at=NOW - timedelta(minutes=5))
        with pytest.raises(VerificationError, match="not valid at validation time"):
            verify(certificate, authority, at=NOW - timedelta(minutes=6))


class TestServer:
    @pytest.mark.parametrize("host", [HOST, "localhost", "127.0.0.1"])
    def test_path_validation_accepts_it_under_its_names(self, authority, authority_key, host):
        key = new_key()
        chain = verify(issue(authority_key, key=key), authority, host=host)
        assert chain[0].public_key() == key.public_key()

    @pytest.mark.parametrize("host", ["10.1.2.3", "2001:db8::7"])
    def test_addresses_may_be_its_name(self, authority, authority_key, host):
        verify(issue(authority_key, host=host), authority, host=host)

    def test_another_name_is_refused(self, authority, authority_key):
        with pytest.raises(VerificationError, match="no matching subjectAltName"):
            verify(issue(authority_key), authority, host="elsewhere.example.org")

    def test_another_authority_is_refused(self, authority_key):
        stranger = authority_certificate(new_key(), NOW)
        with pytest.raises(VerificationError, match="signature does not match"):
            verify(issue(authority_key), stranger)

    @pytest.mark.parametrize(("valid_days", "age", "is_valid"), [(1, 0.9, True), (1, 1.1, False), (30, 29.9, True)])
    def test_it_lasts_as_many_days(self, authority, authority_key, valid_days, age, is_valid):
        certificate = issue(authority_key, valid_days=valid_days)
        if is_valid:
            verify(certificate, authority, at=NOW + timedelta(days=age))
            return
        with pytest.raises(VerificationError, match="not valid at validation time"):
            verify(certificate, authority, at=NOW + timedelta(days=age))

    def test_it_may_not_sign_others(self, authority_key):
        server = issue(authority_key)
        assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not server.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign

    def test_serial_numbers_differ(self, authority_key):
        key = new_key()
        first, second = (issue(authority_key, key=key) for _ in range(2))
        assert first.serial_number != second.serial_number

    def test_pem_is_read_back(self, authority):
        assert x509.load_pem_x509_certificate(certificate_pem(authority)) == authority
