import hashlib

import pytest
import yaml

from client.deployment.site_file import SiteFile
from client.site import SiteSettings
from server.deployment.provision import provision
from shared_model.config.composition import compose
from shared_model.errors import ConfigError

DIGEST = hashlib.sha256(b"bundle").hexdigest()


@pytest.fixture
def kit(tmp_path):
    made = provision(
        out=tmp_path / "kits",
        sites=["mgh", "wfu"],
        hosts=["localhost"],
        port=9092,
        valid_days=5,
        approved_bundles=[DIGEST],
    )
    return made.sites["mgh"]


def edited(kit, **changes):
    path = kit / "site.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    return path


def test_a_kit_is_complete_but_for_the_data(kit, tmp_path):
    with pytest.raises(ConfigError, match=r"Expected data_root in .*: the folder of this hospital's mammograms"):
        SiteFile.load(kit / "site.yaml")
    site = SiteFile.load(edited(kit, data_root=str(tmp_path)))
    assert (site.site, site.server, site.data_root) == ("mgh", "localhost:9092", tmp_path)
    assert site.approved() == {DIGEST}
    for path in (site.authority, site.key, site.policy):
        assert path.is_file()


def test_relative_paths_are_relative_to_the_file(kit):
    site = SiteFile.load(edited(kit, data_root="images", ledger="deep/ledger.sqlite"))
    assert site.data_root == kit / "images"
    assert site.ledger == kit / "deep/ledger.sqlite"


@pytest.mark.parametrize("roster", [None, "sites.csv"])
def test_the_site_reads_its_own_folders_and_none_of_the_servers(kit, roster):
    site = SiteFile.load(edited(kit, data_root="images", roster=roster))
    config = compose(["preset=smoke", "federation.sites=[mgh,wfu]", "data.root=/servers/own"])
    settings = SiteSettings.from_node_config(site.node_config, config)
    assert settings.config.data.root == str(kit / "images")
    assert settings.config.data.roster == roster
    assert (settings.ledger, settings.policy) == (site.ledger, site.policy)
    assert settings.config.data.cache_dir == str(kit / "state/cache")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_source": "folder"}, "Expected data_source to be one of"),
        ({"extra": 1}, "Unknown key extra"),
        ({"site": 3}, "Expected site to be text"),
    ],
)
def test_a_wrong_file_is_one_line(kit, changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        SiteFile.load(edited(kit, data_root=".", **changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "- a", "a: [", "\x00"])
def test_a_file_that_is_none(tmp_path, text):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"site\.yaml"):
        SiteFile.load(tmp_path / "site.yaml")


def test_a_list_from_a_windows_editor_is_read(kit):
    site = SiteFile.load(edited(kit, data_root="."))
    site.approved_releases.write_bytes(f"\ufeff{DIGEST}\r\n".encode())
    assert site.releases() == {DIGEST}


@pytest.mark.parametrize("line", ["abc", DIGEST[:-1], DIGEST.upper(), f"{DIGEST} {DIGEST}"])
def test_a_line_that_is_no_digest(kit, line):
    site = SiteFile.load(edited(kit, data_root="."))
    site.approved_bundles.write_text(f"# ours\n{DIGEST}  # approved in May\n{line}\n")
    with pytest.raises(ConfigError, match="Expected a SHA-256 digest a line"):
        site.approved()
