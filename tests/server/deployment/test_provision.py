"""Kits: what is in them, that TLS and Flower take it, and that no secret is where it does not belong."""

import base64
import dataclasses
import datetime as clock
import ipaddress
import os
import socket
import ssl
import stat
import threading
from argparse import Namespace
from itertools import combinations

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from flwr.cli.supernode.register import try_load_public_key
from flwr.common.args import try_obtain_root_certificates, try_obtain_server_certificates
from flwr.supercore.address import parse_address
from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    sign_message,
    uses_nist_ec_curve,
    verify_signature,
)
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supernode.cli.flower_supernode import _try_setup_client_authentication

from client.deployment.site_file import SiteFile
from client.privacy.policy import SitePolicy
from server.deployment import provision as provision_module
from server.deployment.certificates import certificate_days_left, require_signed_by
from server.deployment.private_keys import AUTHORITY_PASSPHRASE, SERVER_PASSPHRASE
from server.deployment.provision import Kits, provision
from shared_model.config.choices import DataSource
from shared_model.config.composition import CONFIG_FOLDER, compose
from shared_model.errors import ConfigError

SITES = ("MGH", "WFU", "site-3_x")
HOST = "federation.example.org"
BUNDLES = ("a" * 64, "0123456789abcdef" * 4)
PRIVATE = {"ca/ca.key", "server/server.key", *(f"sites/{site}/node.key" for site in SITES)}
SITE_KIT = {
    "ca.pem",
    "node.key",
    "node.pub",
    "approved_bundles.txt",
    "approved_releases.txt",
    "policy.yaml",
    "site.yaml",
    "README.md",
}


def make(out, **changes):
    order = {
        "sites": SITES,
        "hosts": [HOST],
        "port": 9092,
        "valid_days": 90,
        "approved_bundles": BUNDLES,
    }
    return provision(out=out, **(order | changes))


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return make(tmp_path_factory.mktemp("provision") / "kits")


@pytest.fixture(scope="module")
def other_kits(tmp_path_factory):
    return make(tmp_path_factory.mktemp("provision") / "kits")


def files_under(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def set_clock(monkeypatch, instant):
    class Frozen(clock.datetime):
        @classmethod
        def now(cls, tz=None):
            return instant.astimezone(tz)

    monkeypatch.setattr(provision_module, "datetime", Frozen)


def days(number):
    return clock.timedelta(days=number)


def now():
    return clock.datetime.now(clock.UTC)


class TestFiles:
    def test_every_kit_holds_what_it_needs_and_nothing_else(self, kits):
        root = kits.server.parent
        assert set(files_under(root)) == {
            "ca/ca.pem",
            "ca/ca.key",
            *(f"server/{name}" for name in ("ca.pem", "server.pem", "server.key", "server.yaml", "README.md")),
            *(f"server/sites/{site}.pub" for site in SITES),
            *(f"sites/{site}/{name}" for site in SITES for name in SITE_KIT),
        }
        assert kits == Kits(
            authority=root / "ca", server=root / "server", sites={site: root / "sites" / site for site in SITES}
        )

    def test_only_the_owner_may_read(self, kits):
        root = kits.server.parent
        for path in (root, *root.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    @pytest.mark.parametrize("umask", [0o000, 0o777])
    def test_whatever_the_umask(self, tmp_path, umask):
        before = os.umask(umask)
        try:
            self.test_only_the_owner_may_read(make(tmp_path / "kits"))
        finally:
            assert os.umask(before) == umask

    def test_public_parts_are_the_same_everywhere(self, kits):
        authority = (kits.authority / "ca.pem").read_bytes()
        assert (kits.server / "ca.pem").read_bytes() == authority
        for site, folder in kits.sites.items():
            assert (folder / "ca.pem").read_bytes() == authority
            assert (folder / "node.pub").read_bytes() == (kits.server / "sites" / f"{site}.pub").read_bytes()

    def test_server_settings(self, kits):
        plain = yaml.safe_load((kits.server / "server.yaml").read_text())
        assert plain == {"hosts": [HOST], "port": 9092, "sites": list(SITES), "bundle": BUNDLES[0]}

    def test_read_mes_have_three_lines(self, kits):
        for folder in (kits.server, *kits.sites.values()):
            assert len((folder / "README.md").read_text().splitlines()) == 3
        assert "Kit of site WFU" in (kits.sites["WFU"] / "README.md").read_text()

    def test_policy_is_the_hospital_policy(self, kits):
        policy = kits.sites["MGH"] / "policy.yaml"
        assert policy.read_bytes() == (CONFIG_FOLDER / "site_policy" / "hospital.yaml").read_bytes()
        assert SitePolicy.load(policy).max_epsilon == 8.0

    def test_site_settings_await_the_data_folder(self, kits):
        path = kits.sites["MGH"] / "site.yaml"
        assert yaml.safe_load(path.read_text()) == {
            "site": "MGH",
            "server": f"{HOST}:9092",
            "data_root": None,
            "data_source": "manifest",
            "roster": None,
            "ledger": "ledger.sqlite",
            "policy": "policy.yaml",
            "state_dir": "state",
        }
        with pytest.raises(ConfigError, match="Expected data_root"):
            SiteFile.load(path)

    # YAML would take the bare words for a boolean, nothing and a number.
    @pytest.mark.parametrize("site", ["MGH", "no", "null", "007"])
    def test_a_site_reads_its_kit(self, tmp_path, site):
        folder = make(tmp_path / "kits", sites=[site]).sites[site].resolve()
        path = folder / "site.yaml"
        path.write_text(path.read_text().replace("data_root: null", "data_root: data"))
        settings = SiteFile.load(path)
        assert (settings.site, settings.server, settings.data_source) == (site, f"{HOST}:9092", DataSource.MANIFEST)
        assert (settings.data_root, settings.ledger) == (folder / "data", folder / "ledger.sqlite")
        assert settings.policy.is_file()
        assert settings.authority.is_file()
        assert settings.key.is_file()
        assert settings.approved() == set(BUNDLES)

    def test_bundles_stand_once_each_in_the_order_given(self, tmp_path):
        folder = make(tmp_path / "kits", sites=["MGH"], approved_bundles=[*BUNDLES, BUNDLES[0]]).sites["MGH"]
        lines = (folder / "approved_bundles.txt").read_text().splitlines()
        assert lines[0].startswith("# SHA-256")
        assert lines[1:] == list(BUNDLES)

    def test_no_bundle_need_be_known_yet(self, tmp_path):
        folder = make(tmp_path / "kits", sites=["MGH"], approved_bundles=[]).sites["MGH"]
        assert len((folder / "approved_bundles.txt").read_text().splitlines()) == 1

    def test_an_ipv6_address_stands_in_brackets(self, tmp_path):
        folder = make(tmp_path / "kits", hosts=["2001:db8::7"]).sites["MGH"]
        address = yaml.safe_load((folder / "site.yaml").read_text())["server"]
        assert address == "[2001:db8::7]:9092"
        assert parse_address(address) == ("2001:db8::7", 9092, True)

    def test_kits_are_told_the_first_of_several_hosts(self, tmp_path):
        kits = make(tmp_path / "kits", hosts=["10.1.2.3", HOST, "::1"])
        assert yaml.safe_load((kits.sites["MGH"] / "site.yaml").read_text())["server"] == "10.1.2.3:9092"
        assert yaml.safe_load((kits.server / "server.yaml").read_text())["hosts"] == ["10.1.2.3", HOST, "::1"]


class TestSecrets:
    @staticmethod
    def private_key(path):
        content = path.read_bytes()
        return load_ssh_private_key(content, None) if path.name == "node.key" else load_pem_private_key(content, None)

    @staticmethod
    def traces(key):
        """The secret number as bytes, digits, and base64 at each of the three places a byte can have in it."""
        number = key.private_numbers().private_value
        # Without leading zero bytes: OpenSSH drops them (RFC 4251, section 5, mpint).
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        # Of padded base64 the characters that mix in neighbouring bytes are cut off.
        encoded = (base64.b64encode(bytes(shift) + raw)[4 * (shift > 0) : -8] for shift in range(3))
        return [raw, raw[::-1], raw.hex().encode(), str(number).encode(), *encoded]

    @classmethod
    def names_holding(cls, files, key):
        """Names of the files with the key, also where line ends cut its base64."""
        contents = {name: path.read_bytes() for name, path in files.items()}
        flat = {name: content + b"".join(content.split()) for name, content in contents.items()}
        return {name for name, content in flat.items() if any(trace in content for trace in cls.traces(key))}

    def test_every_private_key_is_in_one_file_only(self, kits):
        files = files_under(kits.server.parent)
        for name in PRIVATE:
            assert self.names_holding(files, self.private_key(files[name])) == {name}

    def test_the_search_finds_a_planted_key(self, kits, tmp_path):
        key = self.private_key(kits.sites["MGH"] / "node.key")
        raw = key.private_numbers().private_value.to_bytes(48, "big")
        for number, content in enumerate([b"x" + raw, b"x" + raw.hex().encode(), base64.encodebytes(b"xy" + raw)]):
            (tmp_path / str(number)).write_bytes(content)
        assert self.names_holding(files_under(tmp_path), key) == {"0", "1", "2"}

    def test_two_keys_can_have_a_passphrase_each(self, tmp_path, monkeypatch):
        monkeypatch.setenv(AUTHORITY_PASSPHRASE, "one")
        monkeypatch.setenv(SERVER_PASSPHRASE, "two")
        kits = make(tmp_path / "kits")
        for path, passphrase in ((kits.authority / "ca.key", b"one"), (kits.server / "server.key", b"two")):
            key = load_pem_private_key(path.read_bytes(), passphrase)
            assert self.names_holding(files_under(tmp_path), key) == set()
            with pytest.raises(ValueError, match=r"."):
                load_pem_private_key(path.read_bytes(), b"three")

    def test_no_two_private_keys_are_equal(self, kits, other_kits):
        folders = (kits.server.parent, other_kits.server.parent)
        numbers = [self.private_key(folder / name).private_numbers() for folder in folders for name in PRIVATE]
        assert all(first != second for first, second in combinations(numbers, 2))

    def test_private_markers_stand_in_private_files_only(self, kits):
        files = files_under(kits.server.parent)
        assert {name for name, path in files.items() if b"PRIVATE KEY" in path.read_bytes()} == PRIVATE


class TestCertificates:
    @staticmethod
    def load(path):
        return x509.load_pem_x509_certificate(path.read_bytes())

    def test_authority(self, kits):
        certificate = self.load(kits.authority / "ca.pem")
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert constraints.critical
        assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
        assert usage.critical
        assert usage.value.key_cert_sign
        assert not usage.value.digital_signature
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert [name.value for name in names] == ["federated mammography CA"]
        assert isinstance(certificate.public_key().curve, ec.SECP384R1)

    @pytest.mark.parametrize(
        ("hosts", "names", "addresses"),
        [
            ([HOST], [HOST, "localhost"], ["127.0.0.1"]),
            (["localhost"], ["localhost"], ["127.0.0.1"]),
            (["127.0.0.1"], ["localhost"], ["127.0.0.1"]),
            (["10.1.2.3"], ["localhost"], ["10.1.2.3", "127.0.0.1"]),
            (["2001:db8::7"], ["localhost"], ["2001:db8::7", "127.0.0.1"]),
            (
                [HOST, "::1", "b.example", "10.1.2.3"],
                [HOST, "b.example", "localhost"],
                ["::1", "10.1.2.3", "127.0.0.1"],
            ),
        ],
    )
    def test_server_names(self, tmp_path, hosts, names, addresses):
        certificate = self.load(make(tmp_path / "kits", hosts=hosts).server / "server.pem")
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert found.get_values_for_type(x509.DNSName) == names
        assert found.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(each) for each in addresses]

    def test_server_certificate_is_for_servers(self, kits):
        certificate = self.load(kits.server / "server.pem")
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    def test_validity(self, tmp_path, monkeypatch):
        instant = clock.datetime(2026, 3, 1, 12, tzinfo=clock.UTC)
        set_clock(monkeypatch, instant)
        kits = make(tmp_path / "kits", valid_days=30)
        certificate, authority = self.load(kits.server / "server.pem"), self.load(kits.authority / "ca.pem")
        start = instant - clock.timedelta(minutes=5)
        assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (start, instant + days(30))
        assert (authority.not_valid_before_utc, authority.not_valid_after_utc) == (start, instant + days(3650))
        assert certificate_days_left(kits.server / "server.pem", instant + days(10)) == 20.0

    def test_signed_by_its_own_authority_alone(self, kits, other_kits):
        require_signed_by(kits.server / "server.pem", kits.sites["MGH"] / "ca.pem")
        with pytest.raises(ConfigError, match="to be signed by"):
            require_signed_by(kits.server / "server.pem", other_kits.sites["MGH"] / "ca.pem")


def flower_context(authority):
    """The TLS context of Flower's own client for what ``--root-certificates`` names."""
    arguments = Namespace(root_certificates=str(authority), insecure=False)
    certificates = try_obtain_root_certificates(arguments, "localhost:9092")
    contexts = []

    class Client(ProtobufClient):
        def __init__(self, base_url, *, verify, **_):
            contexts.append(verify)

    Client.from_server_address("localhost:9092", False, certificates, [])
    return contexts[0]


def handshake(server_kit, context, host):
    """Shake hands over a socket pair and send a word; raises what the client's side raises."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(server_kit / "server.pem", server_kit / "server.key")
    client_end, server_end = socket.socketpair()

    def serve():
        try:
            with server_context.wrap_socket(server_end, server_side=True) as secured:
                secured.sendall(b"hello")
        except OSError:
            # A client that does not trust the certificate hangs up; its own error is what the test looks at.
            server_end.close()

    client_end.settimeout(5)
    server_end.settimeout(5)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with context.wrap_socket(client_end, server_hostname=host) as secured:
            return secured.recv(5)
    finally:
        client_end.close()
        thread.join()


class TestHandshake:
    @pytest.mark.parametrize("host", [HOST, "localhost", "127.0.0.1"])
    def test_flowers_client_trusts_its_server(self, kits, host):
        assert handshake(kits.server, flower_context(kits.sites["MGH"] / "ca.pem"), host) == b"hello"

    def test_strict_verification_of_later_pythons_passes(self, kits):
        context = ssl.create_default_context(cafile=kits.sites["MGH"] / "ca.pem")
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        assert handshake(kits.server, context, HOST) == b"hello"

    def test_another_authority_is_refused(self, kits, other_kits):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"certificate signature failure|unable to get local"):
            handshake(kits.server, flower_context(other_kits.sites["MGH"] / "ca.pem"), "localhost")

    def test_another_host_is_refused(self, kits):
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            handshake(kits.server, flower_context(kits.sites["MGH"] / "ca.pem"), "elsewhere.example.org")

    def test_an_expired_certificate_is_refused(self, tmp_path, monkeypatch):
        for age, name in ((0.5, "young"), (1.5, "old")):
            set_clock(monkeypatch, now() - days(age))
            made = make(tmp_path / name, valid_days=1)
            if name == "young":
                assert handshake(made.server, flower_context(made.sites["MGH"] / "ca.pem"), HOST) == b"hello"
        assert (
            certificate_days_left(made.server / "server.pem", now())
            < 0
            < certificate_days_left(made.authority / "ca.pem", now())
        )
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
            handshake(made.server, flower_context(made.sites["MGH"] / "ca.pem"), HOST)


class TestFlower:
    @pytest.mark.parametrize("site", SITES)
    def test_the_supernode_signs_and_the_superlink_knows_it(self, kits, site):
        key_file = str(kits.sites[site] / "node.key")
        private, public = _try_setup_client_authentication(
            Namespace(auth_supernode_private_key=key_file, auth_supernode_public_key=None)
        )
        registered = bytes_to_public_key(try_load_public_key(kits.server / "sites" / f"{site}.pub"))
        assert registered == public
        assert isinstance(registered.curve, ec.SECP384R1)
        assert uses_nist_ec_curve(registered)
        assert verify_signature(registered, b"now", sign_message(private, b"now"))
        assert not verify_signature(registered, b"later", sign_message(private, b"now"))

    def test_a_site_is_not_taken_for_another(self, kits):
        registered = {try_load_public_key(kits.server / "sites" / f"{site}.pub") for site in SITES}
        assert len(registered) == len(SITES)

    def test_the_superlink_loads_its_certificates(self, kits):
        paths = [str(kits.server / name) for name in ("ca.pem", "server.pem", "server.key")]
        arguments = Namespace(ssl_ca_certfile=paths[0], ssl_certfile=paths[1], ssl_keyfile=paths[2])
        assert try_obtain_server_certificates(arguments) == tuple(
            (kits.server / name).read_bytes() for name in ("ca.pem", "server.pem", "server.key")
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"sites": []}, "not to be empty"),
            ({"sites": ["MGH", "MGH"]}, "distinct, ignoring case"),
            ({"sites": ["MGH", "mgh"]}, "distinct, ignoring case"),
            ({"hosts": [""]}, "DNS name or IP address"),
            ({"hosts": ["0.0.0.0"]}, "DNS name or IP address"),  # noqa: S104, refused
            ({"hosts": ["::"]}, "DNS name or IP address"),
            ({"hosts": ["fe80::1%eth0"]}, "DNS name or IP address"),
            ({"hosts": ["[::1]"]}, "DNS name or IP address"),
            ({"hosts": ["10.1.2.300"]}, "DNS name or IP address"),
            ({"hosts": ["https://a.example"]}, "DNS name or IP address"),
            ({"hosts": ["a.example:9092"]}, "DNS name or IP address"),
            ({"hosts": ["*.example.org"]}, "DNS name or IP address"),
            ({"hosts": ["a..example"]}, "DNS name or IP address"),
            ({"hosts": ["a.example\n"]}, "DNS name or IP address"),
            ({"hosts": ["münchen.example"]}, "DNS name or IP address"),
            ({"hosts": [".".join(["a" * 60] * 5)]}, "DNS name or IP address"),
            ({"hosts": []}, "hosts=.* not to be empty"),
            ({"hosts": ["a.example", "A.EXAMPLE"]}, "hosts=.* to be distinct"),
            ({"port": 0}, r"port=0 in \[1, 65535\]"),
            ({"port": 65536}, r"port=65536 in \[1, 65535\]"),
            ({"valid_days": 0}, r"valid_days=0 in \[1, 3650\]"),
            ({"valid_days": 3651}, r"valid_days=3651 in \[1, 3650\]"),
            ({"approved_bundles": ["a" * 63]}, "a SHA-256 digest"),
            ({"approved_bundles": ["A" * 64]}, "a SHA-256 digest"),
            ({"approved_bundles": ["a" * 64 + "\n"]}, "a SHA-256 digest"),
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_is_written(self, tmp_path, changes, message):
        with pytest.raises(ConfigError, match=message):
            make(tmp_path / "kits", **changes)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["MGH", "a_b-C9", "x" * 64, "", "x" * 65, "a/b", "..", "a b", "é", "a\n", "a.b"])
    def test_site_names_follow_the_rule_of_the_configuration(self, tmp_path, name):
        federation = dataclasses.replace(compose([]).federation, min_sites=1, node_ids=None)
        try:
            dataclasses.replace(federation, sites=(name,))
        except ConfigError:
            with pytest.raises(ConfigError, match=r"Expected sites\[0\]=.* to be a name of"):
                make(tmp_path / "kits", sites=[name])
        else:
            assert set(make(tmp_path / "kits", sites=[name]).sites) == {name}

    def test_a_folder_in_use_is_left_alone(self, tmp_path):
        (tmp_path / "kits").mkdir()
        (tmp_path / "kits" / "letter").write_text("mine")
        with pytest.raises(ConfigError, match=r"Expected out=.*kits to be a new or empty folder"):
            make(tmp_path / "kits")
        assert set(files_under(tmp_path)) == {"kits/letter"}

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "kits").write_text("mine")
        with pytest.raises(ConfigError, match="to be a new or empty folder"):
            make(tmp_path / "kits")
        assert (tmp_path / "kits").read_text() == "mine"

    def test_kits_are_not_made_twice(self, tmp_path):
        key = make(tmp_path / "kits").sites["MGH"] / "node.key"
        content = key.read_bytes()
        with pytest.raises(ConfigError, match="to be a new or empty folder"):
            make(tmp_path / "kits")
        assert key.read_bytes() == content

    def test_a_place_where_no_folder_can_be_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match=r"Expected out=.*kits to be a folder that can be written"):
            make(tmp_path / "file" / "kits")


class TestCrash:
    def test_an_empty_folder_is_filled_and_closed_to_others(self, tmp_path):
        (tmp_path / "kits").mkdir(mode=0o755)
        make(tmp_path / "kits")
        assert stat.S_IMODE((tmp_path / "kits").stat().st_mode) == 0o700
        assert [path.name for path in tmp_path.iterdir()] == ["kits"]

    @pytest.mark.parametrize("existed", [False, True])
    @pytest.mark.parametrize("num_files", [0, 1, 4, 12, 30])
    def test_a_failure_half_way_leaves_nothing(self, tmp_path, monkeypatch, num_files, existed):
        out, written = tmp_path / "kits", []
        write = provision_module.write_atomically

        def fail(path, content):
            if len(written) == num_files:
                raise KeyboardInterrupt("power cut")
            written.append(path)
            write(path, content)

        if existed:
            out.mkdir()
        monkeypatch.setattr(provision_module, "write_atomically", fail)
        with pytest.raises(KeyboardInterrupt, match="power cut"):
            make(out)
        assert len(written) == num_files
        assert all(out not in path.parents for path in written)
        assert list(tmp_path.rglob("*")) == ([out] if existed else [])

    def test_a_folder_filled_meanwhile_is_left_alone(self, tmp_path, monkeypatch):
        out, write = tmp_path / "kits", provision_module.write_atomically

        def fill(path, content):
            out.mkdir(exist_ok=True)
            (out / "letter").write_text("mine")
            write(path, content)

        monkeypatch.setattr(provision_module, "write_atomically", fill)
        with pytest.raises(ConfigError, match="to be a folder that can be written"):
            make(out)
        assert set(files_under(tmp_path)) == {"kits/letter"}
