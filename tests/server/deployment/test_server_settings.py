"""The settings of the server: what they may hold, the address that sites are told, and that a file gives them back."""

import dataclasses

import pytest
from flwr.supercore.address import parse_address

from server.deployment.server_settings import ServerSettings
from shared_model.errors import ConfigError

SETTINGS = ServerSettings(hosts=("a.example.org", "10.0.0.1", "::1"), port=9092, sites=("mgh", "no", "007"))


@pytest.mark.parametrize("bundle", [None, "0123456789" * 6 + "0123"])
def test_a_file_gives_them_back(tmp_path, bundle):
    settings = dataclasses.replace(SETTINGS, bundle=bundle)
    (tmp_path / "server.yaml").write_bytes(settings.to_yaml())
    assert ServerSettings.load(tmp_path / "server.yaml") == settings


def test_the_bundle_may_be_left_out(tmp_path):
    (tmp_path / "server.yaml").write_bytes(SETTINGS.to_yaml().replace(b"bundle: null\n", b""))
    assert ServerSettings.load(tmp_path / "server.yaml") == SETTINGS


@pytest.mark.parametrize(
    ("host", "address", "parsed"),
    [
        ("a.example.org", "a.example.org:9092", ("a.example.org", 9092, None)),
        ("10.0.0.1", "10.0.0.1:9092", ("10.0.0.1", 9092, False)),
        ("::1", "[::1]:9092", ("::1", 9092, True)),
    ],
)
def test_sites_are_told_the_first_host_as_flower_reads_it(host, address, parsed):
    settings = dataclasses.replace(SETTINGS, hosts=(host, "other.example.org"))
    assert settings.address == address
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hosts": ()}, "hosts=.* not to be empty"),
        ({"hosts": ("a", "A")}, "hosts=.* to be distinct"),
        ({"hosts": ("::1", "0:0:0:0:0:0:0:1")}, "hosts=.* to be distinct"),
        ({"hosts": ("a", "b c")}, r"hosts\[1\]=b c to be a DNS name or IP address, without brackets"),
        ({"hosts": ("[::1]",)}, "without brackets"),
        ({"sites": ()}, "sites=.* not to be empty"),
        ({"sites": ("mgh", "MGH")}, "sites=.* to be distinct, ignoring case"),
        ({"bundle": "x"}, "bundle=x to be a SHA-256 digest"),
        ({"port": 0}, r"port=0 in \[1, 65535\]"),
    ],
)
def test_what_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SETTINGS, **changes)
