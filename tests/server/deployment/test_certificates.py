"""Days left and who signed, on certificates made here."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from server.deployment.certificate_authority import certificate_pem, server_certificate
from server.deployment.certificates import (
    certificate_days_left,
    require_key_of,
    require_made_out_to,
    require_signed_by,
)
from shared_model.errors import ConfigError

START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2026, 1, 31, 12, tzinfo=UTC)


def write_certificate(path, *, subject, issuer, key, signer, ca):
    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(END)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    path.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def authority_key():
    return new_key()


@pytest.fixture
def authority(tmp_path, authority_key):
    return write_certificate(
        tmp_path / "ca.pem", subject="CA", issuer="CA", key=authority_key, signer=authority_key, ca=True
    )


def leaf(tmp_path, signer, *, issuer="CA"):
    return write_certificate(
        tmp_path / "leaf.pem", subject="server", issuer=issuer, key=new_key(), signer=signer, ca=False
    )


@pytest.mark.parametrize(
    ("now", "days"),
    [
        (START, 30.5),
        (END - timedelta(hours=6), 0.25),
        (END, 0.0),
        (END + timedelta(days=2), -2.0),
        # The same instant as END on a clock east of Greenwich.
        (datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))), 0.0),
    ],
)
def test_days_left_count_from_now_to_the_end(authority, now, days):
    assert certificate_days_left(authority, now) == days


def test_a_clock_without_a_zone_is_refused(authority):
    with pytest.raises(ValueError, match="with a time zone"):
        certificate_days_left(authority, START.replace(tzinfo=None))


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_without_a_certificate_is_named(tmp_path, authority, content):
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_bytes(content)
    expected = r"Expected a PEM certificate in .*broken\.pem"
    with pytest.raises(ConfigError, match=expected):
        certificate_days_left(path, START)
    with pytest.raises(ConfigError, match=expected):
        require_signed_by(path, authority)
    with pytest.raises(ConfigError, match=expected):
        require_signed_by(authority, path)


def test_the_authority_that_signed_is_accepted(tmp_path, authority, authority_key):
    require_signed_by(leaf(tmp_path, authority_key), authority)
    require_signed_by(authority, authority)


def test_another_key_under_the_same_name_is_refused(tmp_path, authority):
    with pytest.raises(ConfigError, match=r"leaf\.pem to be signed by .*ca\.pem"):
        require_signed_by(leaf(tmp_path, new_key()), authority)


def test_the_right_key_under_another_name_is_refused(tmp_path, authority, authority_key):
    with pytest.raises(ConfigError, match=r"leaf\.pem to be signed by .*ca\.pem"):
        require_signed_by(leaf(tmp_path, authority_key, issuer="another CA"), authority)


def test_a_key_of_another_kind_is_refused(tmp_path, authority):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(ConfigError, match="to be signed by"):
        require_signed_by(leaf(tmp_path, key), authority)


@pytest.mark.parametrize("ca", [False, None])
def test_a_certificate_that_may_not_sign_is_no_authority(tmp_path, authority_key, ca):
    path = write_certificate(
        tmp_path / "no_ca.pem", subject="CA", issuer="CA", key=authority_key, signer=authority_key, ca=ca
    )
    with pytest.raises(ConfigError, match=r"no_ca\.pem to be the certificate of an authority"):
        require_signed_by(leaf(tmp_path, authority_key), path)


class TestNamesAndKey:
    @pytest.fixture
    def key(self):
        return new_key()

    @pytest.fixture
    def certificate(self, tmp_path, key, authority_key):
        hosts = ("A.example.org", "10.0.0.1", "2001:db8::7")
        made = server_certificate(key, authority_key=authority_key, hosts=hosts, valid_days=1, now=START)
        (tmp_path / "server.pem").write_bytes(certificate_pem(made))
        return tmp_path / "server.pem"

    @pytest.mark.parametrize(
        "host",
        ["a.example.org", "A.example.org", "10.0.0.1", "2001:db8::7", "2001:DB8:0::7", "localhost", "127.0.0.1"],
    )
    def test_hosts_that_it_is_made_out_to(self, certificate, host):
        require_made_out_to(certificate, [host, "localhost"])

    @pytest.mark.parametrize("host", ["b.example.org", "example.org", "10.0.0.2", "2001:db8::8", "::1"])
    def test_a_host_that_it_lacks_is_named(self, certificate, host):
        with pytest.raises(ConfigError, match=rf"Expected .*server\.pem to be made out to {host}\."):
            require_made_out_to(certificate, ["localhost", host])

    def test_a_certificate_without_names_is_made_out_to_nobody(self, tmp_path, authority_key):
        with pytest.raises(ConfigError, match=r"to be made out to localhost"):
            require_made_out_to(leaf(tmp_path, authority_key), ["localhost"])

    def test_its_own_key_and_another(self, certificate, key):
        require_key_of(certificate, key)
        for other in (new_key(), rsa.generate_private_key(public_exponent=65537, key_size=2048)):
            with pytest.raises(ConfigError, match=r"Expected the private key of .*server\.pem, got another"):
                require_key_of(certificate, other)
