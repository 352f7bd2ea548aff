"""Where the page listens and whom it answers; and the command that starts it."""

import pytest
from typer.testing import CliRunner

from client.commands.app import app
from client.deployment.site_file import SiteFile
from client.reader_page import serving
from client.reader_page.serving import Listening, access_to, address_of
from shared_model.errors import ConfigError
from tests.hospital_kits import kit_in

PROXY = {"address": "10.0.0.7", "user_header": "X-Remote-User", "hosts": ["reader.hospital.example"]}


@pytest.fixture
def kit(tmp_path):
    made = kit_in(tmp_path)
    made.change(reader={"studies": "incoming"})
    return made


def test_alone_it_is_for_the_user_of_this_machine(kit, monkeypatch):
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    first, second = (access_to(kit.site, Listening(host="127.0.0.1", port=8800)) for _ in range(2))
    assert first.token != second.token
    assert len(first.token) >= 32
    assert first.user not in {None, "somebody-else"}
    assert first.hosts == {"127.0.0.1:8800", "localhost:8800", "[::1]:8800"}
    assert address_of(Listening(host="127.0.0.1", port=8800), first) == f"http://127.0.0.1:8800/{first.token}/"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "hospital.example"])  # noqa: S104, refused
def test_others_need_a_proxy_that_knows_them(kit, host):
    with pytest.raises(ConfigError, match=r"Expected host=.* to be of this machine alone; for others, name the"):
        access_to(kit.site, Listening(host=host, port=8800))
    kit.change(reader={"studies": "incoming", "proxy": PROXY})
    access = access_to(kit.site, Listening(host=host, port=8800))
    assert (access.user, access.token, access.hosts) == (None, None, {"reader.hospital.example"})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "Missing key reader.studies"),
        ({"studies": ""}, "Expected reader.studies"),
        ({"studies": "a", "port": 1}, "Unknown key reader.port"),
        ({"studies": "a", "proxy": PROXY | {"address": "proxy.example"}}, "to be the IP address of the proxy"),
        ({"studies": "a", "proxy": PROXY | {"user_header": "X Remote"}}, "to be the name of a header"),
        ({"studies": "a", "proxy": PROXY | {"hosts": []}}, "not to be empty"),
        ({"studies": "a", "proxy": PROXY | {"hosts": ["https://x/"]}}, "to be host or host:port"),
    ],
)
def test_a_wrong_section_is_one_line(kit, section, message):
    kit.change(reader=section)
    with pytest.raises(ConfigError, match=message) as raised:
        SiteFile.load(kit.path)
    assert "\n" not in str(raised.value)


def test_without_a_section_there_is_no_page(tmp_path):
    site = kit_in(tmp_path).site
    with pytest.raises(ConfigError, match=r"Expected a section reader in site\.yaml with studies"):
        site.require_reader()


def test_the_command_opens_the_release_and_prints_the_address(room, monkeypatch):
    served = []
    monkeypatch.setattr(serving, "serve", lambda *arguments: served.append(arguments))
    path = room.site.key.parent / "site.yaml"
    words = ["reader", "--site", str(path), "--release", str(room.release), "--port", "8823"]
    done = CliRunner().invoke(app, [*words, "--accept-unsigned"])
    assert done.exit_code == 0, done.output
    site, _, access, listening = served[0]
    assert (site, listening.port) == (room.site, 8823)
    assert f"http://127.0.0.1:8823/{access.token}/" in done.output
    refused = CliRunner().invoke(app, words)
    assert "signed" in str(refused.exception)
    assert CliRunner().invoke(app, [*words[:-1], "70000"]).exit_code == 2
