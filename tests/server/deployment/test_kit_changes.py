"""Existing kits changed: what changes, what stays, what is refused, and what a fault at any write leaves."""

import itertools
import os
import shutil
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key, load_ssh_public_key

from server.deployment import kit_changes
from server.deployment.certificates import require_key_of, require_made_out_to, require_signed_by
from server.deployment.kit import ServerKit, kits_lock
from server.deployment.kit_changes import add_sites, renew_certificate, renew_sites, revoke_sites
from server.deployment.private_keys import AUTHORITY_PASSPHRASE, SERVER_PASSPHRASE
from server.deployment.provision import provision
from shared_model.errors import ConfigError
from tests.server.deployment.write_faults import full_disk, killed_at_every_write

SITES = ("MGH", "WFU", "ISMD")
BUNDLE = "0123456789abcdef" * 4
CHANGES = {
    "add": lambda out: add_sites(out, ["ca"]),
    "revoke": lambda out: revoke_sites(out, ["WFU", "MGH"]),
    "renew": lambda out: renew_sites(out, ["WFU", "MGH"]),
    "certificate": lambda out: renew_certificate(out, hosts=["::1", "b.example.org"], valid_days=30),
}


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory):
    out = tmp_path_factory.mktemp("provisioned") / "kits"
    provision(out=out, sites=SITES, hosts=["a.example.org"], port=9092, valid_days=90, approved_bundles=[BUNDLE])
    return out


@pytest.fixture
def fresh(provisioned, tmp_path):
    """Return a copy of the kits, as often as it is called."""

    def make():
        return shutil.copytree(provisioned, tmp_path / str(len(list(tmp_path.iterdir()))))

    return make


@pytest.fixture
def out(fresh):
    return fresh()


def contents(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def changed(before, after):
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def settled(out):
    """Contents without what a change that was cut off leaves for the next one to remove."""
    return {name: each for name, each in contents(out).items() if not name.startswith((".change", "provision.lock"))}


def refusal(change, out):
    """What is said where a change is refused; None where it is made."""
    try:
        change(out)
    except ConfigError as error:
        return str(error)
    return None


def public(content):
    return load_ssh_public_key(content).public_numbers()


def private(content):
    return load_ssh_private_key(content, None).public_key().public_numbers()


def require_usable(out):
    """Check that every part of the kits fits every other, and return the server's kit."""
    kit = ServerKit.load(out / "server")
    kit.public_keys()
    for site in kit.sites:
        folder, enrolled = out / "sites" / site, public((kit.folder / "sites" / f"{site}.pub").read_bytes())
        assert private((folder / "node.key").read_bytes()) == public((folder / "node.pub").read_bytes()) == enrolled
        assert yaml.safe_load((folder / "site.yaml").read_text())["site"] == site
    require_signed_by(kit.folder / "server.pem", out / "ca" / "ca.pem")
    require_made_out_to(kit.folder / "server.pem", kit.hosts)
    require_key_of(kit.folder / "server.pem", load_pem_private_key((kit.folder / "server.key").read_bytes(), None))
    hidden = [path for path in out.rglob("*") if path.name.startswith(".") and path.name != ".change.unfinished"]
    assert hidden == [path for path in hidden if ".change.unfinished" in path.parts]
    return kit


class TestAdd:
    def test_its_kit_is_of_the_same_kind(self, out):
        before = contents(out)
        add_sites(out, ["new"])
        after = contents(out)
        files = {name.removeprefix("sites/MGH/") for name in before if name.startswith("sites/MGH/")}
        assert changed(before, after) == {
            "server/server.yaml",
            "server/sites/new.pub",
            *(f"sites/new/{name}" for name in files),
        }
        for name in files - {"node.key", "node.pub"}:
            assert after[f"sites/new/{name}"] == before[f"sites/MGH/{name}"].replace(b"MGH", b"new")
        assert f"{BUNDLE}\n".encode() in after["sites/new/approved_bundles.txt"]
        assert require_usable(out).sites == (*SITES, "new")

    def test_what_server_yaml_says_now_counts(self, out):
        settings = out / "server" / "server.yaml"
        settings.write_text(settings.read_text().replace("a.example.org", "::1").replace(f"'{BUNDLE}'", "null"))
        settings.write_text(settings.read_text().replace(BUNDLE, "null"))
        add_sites(out, ["new"])
        assert yaml.safe_load((out / "sites" / "new" / "site.yaml").read_text())["server"] == "[::1]:9092"
        assert len((out / "sites" / "new" / "approved_bundles.txt").read_text().splitlines()) == 1

    def test_several(self, out):
        assert add_sites(out, ["a", "b"]).sites == (*SITES, "a", "b")
        require_usable(out)

    @pytest.mark.parametrize("gone", ["ca", "sites", "server/ca.pem", "server/server.key"])
    def test_what_it_does_not_need_may_be_elsewhere(self, out, gone):
        path = out / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        add_sites(out, ["new"])
        assert ServerKit.load(out / "server").sites == (*SITES, "new")
        assert (out / "sites" / "new" / "ca.pem").exists()

    @pytest.mark.parametrize("name", ["MGH", "mgh", "../x", "/etc", "..", "", "a b", "a/b", "é", "x" * 65, ".change"])
    def test_a_name_that_is_taken_or_none(self, out, name):
        before = contents(out)
        with pytest.raises(ConfigError, match=r"Expected sites.* to be (a name of|distinct, ignoring case)"):
            add_sites(out, ["new", name])
        assert contents(out) == before

    def test_a_revoked_name_gets_a_new_key(self, out):
        before = contents(out)
        revoke_sites(out, ["WFU"])
        add_sites(out, ["WFU"])
        after = contents(out)
        assert require_usable(out).sites == ("MGH", "ISMD", "WFU")
        for name in ("server/sites/WFU.pub", "sites/WFU/node.pub"):
            assert public(after[name]) != public(before[name])
        assert private(after["sites/WFU/node.key"]) != private(before["sites/WFU/node.key"])

    def test_the_folder_of_a_site_that_has_begun_is_left_alone(self, out):
        revoke_sites(out, ["WFU"])
        (out / "sites" / "WFU" / "ledger.sqlite").write_text("spent")
        before = contents(out)
        with pytest.raises(ConfigError, match=r"room for the kit of WFU in .*sites, there is ledger\.sqlite in"):
            add_sites(out, ["WFU"])
        assert contents(out) == before

    def test_a_folder_that_differs_by_case(self, out):
        revoke_sites(out, ["WFU"])
        with pytest.raises(ConfigError, match=r"room for the kit of wfu in .*sites, there is WFU in"):
            add_sites(out, ["wfu"])

    def test_another_authority_is_noticed(self, out):
        shutil.copy(out / "server" / "server.pem", out / "ca" / "ca.pem")
        with pytest.raises(ConfigError, match=r"ca/ca\.pem and .*server/ca\.pem to be the same certificate"):
            add_sites(out, ["new"])


class TestRevoke:
    def test_the_site_and_its_keys_go_and_the_rest_of_its_folder_stays(self, out):
        before = contents(out)
        revoke_sites(out, ["WFU"])
        after = contents(out)
        gone = {"server/sites/WFU.pub", "sites/WFU/node.key", "sites/WFU/node.pub"}
        assert changed(before, after) == gone | {"server/server.yaml"}
        assert not gone & set(after)
        assert require_usable(out).sites == ("MGH", "ISMD")

    def test_its_folder_may_be_gone(self, out):
        shutil.rmtree(out / "sites")
        revoke_sites(out, ["WFU"])
        assert not (out / "sites").exists()

    @pytest.mark.parametrize("sites", [["new"], ["wfu"], ["WFU", "WFU"], [""], [], ["../MGH"]])
    def test_who_is_no_site(self, out, sites):
        before = contents(out)
        with pytest.raises(ConfigError, match=r"Expected names of the kits, each once, of MGH, WFU, ISMD; got"):
            revoke_sites(out, sites)
        assert contents(out) == before

    def test_somebody_stays(self, out):
        with pytest.raises(ConfigError, match=r"Expected a site to stay, got all of them: ISMD, MGH, WFU"):
            revoke_sites(out, ["ISMD", "MGH", "WFU"])


class TestRenew:
    def test_the_key_and_nothing_else(self, out):
        for name in ("ledger.sqlite", "site.yaml", "policy.yaml"):
            (out / "sites" / "WFU" / name).write_text("site: WFU")
        before = contents(out)
        renew_sites(out, ["WFU"])
        assert changed(before, contents(out)) == {
            "server/sites/WFU.pub",
            "sites/WFU/node.key",
            "sites/WFU/node.pub",
        }
        require_usable(out)

    def test_a_key_that_was_lost_everywhere(self, out):
        shutil.rmtree(out / "sites")
        shutil.rmtree(out / "ca")
        renew_sites(out, ["WFU", "MGH"])
        assert set(contents(out / "sites")) == {
            f"{site}/node.{kind}" for site in ("WFU", "MGH") for kind in ("key", "pub")
        }

    @pytest.mark.parametrize("sites", [["new"], ["WFU", "WFU"], []])
    def test_who_is_no_site(self, out, sites):
        with pytest.raises(ConfigError, match=r"Expected names of the kits, each once"):
            renew_sites(out, sites)


class TestRenewCertificate:
    def test_the_servers_alone(self, out):
        before = contents(out)
        renew_certificate(out, hosts=None, valid_days=30)
        after = contents(out)
        assert changed(before, after) == {"server/server.key", "server/server.pem"}
        certificate = x509.load_pem_x509_certificate(after["server/server.pem"])
        days = (certificate.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)
        assert 29.9 < days < 30.1
        require_usable(out)

    def test_other_hosts(self, out):
        before = contents(out)
        settings = renew_certificate(out, hosts=["::1", "a.example.org"], valid_days=30)
        assert settings.address == "[::1]:9092"
        assert require_usable(out).hosts == ("::1", "a.example.org")
        assert b"[::1]:9092" in contents(out)["server/README.md"]
        assert {name for name in changed(before, contents(out)) if not name.startswith("server/")} == set()

    def test_where_only_settings_were_copied_back(self, out):
        for name in ("ca.pem", "server.pem", "server.key", "README.md"):
            (out / "server" / name).unlink()
        renew_certificate(out, hosts=None, valid_days=30)
        require_usable(out)

    @pytest.mark.parametrize(
        ("hosts", "valid_days", "message"),
        [
            (None, 0, r"valid_days=0 in \[1, 3650\]"),
            (None, 3651, r"valid_days=3651 in \[1, 3650\]"),
            (["a..b"], 1, "DNS name or IP address"),
            ([], 1, "hosts=.* not to be empty"),
            (["a", "A"], 1, "to be distinct"),
        ],
    )
    def test_what_cannot_be(self, out, hosts, valid_days, message):
        before = contents(out)
        with pytest.raises(ConfigError, match=message):
            renew_certificate(out, hosts=hosts, valid_days=valid_days)
        assert contents(out) == before

    def test_it_does_not_outlive_the_authority(self, out, monkeypatch):
        class Later(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(days=10)

        monkeypatch.setattr(kit_changes, "datetime", Later)
        renew_certificate(out, hosts=None, valid_days=3639)
        with pytest.raises(ConfigError, match=r"Expected valid_days to be at most 3640, the days left of .*ca\.pem"):
            renew_certificate(out, hosts=None, valid_days=3641)

    def test_the_authority_must_be_there_and_the_right_one(self, out, tmp_path):
        key = out / "ca" / "ca.key"
        shutil.copy(out / "server" / "server.key", key)
        with pytest.raises(ConfigError, match=r"Expected the private key of .*ca\.pem, got another"):
            renew_certificate(out, hosts=None, valid_days=1)
        key.unlink()
        with pytest.raises(ConfigError, match=r"Expected a private key in .*ca\.key: No such file"):
            renew_certificate(out, hosts=None, valid_days=1)

    def test_encrypted_keys_stay_encrypted(self, tmp_path, monkeypatch):
        monkeypatch.setenv(AUTHORITY_PASSPHRASE, "of the authority")
        monkeypatch.setenv(SERVER_PASSPHRASE, "höchst geheim")
        out = tmp_path / "kits"
        provision(out=out, sites=["a"], hosts=["a.example"], port=1, valid_days=9, approved_bundles=[])
        renew_certificate(out, hosts=None, valid_days=1)
        for name, passphrase in (("ca/ca.key", "of the authority"), ("server/server.key", "höchst geheim")):
            content = (out / name).read_bytes()
            with pytest.raises(TypeError, match="not given"):
                load_pem_private_key(content, None)
            load_pem_private_key(content, passphrase.encode())
        before = contents(out)
        monkeypatch.delenv(SERVER_PASSPHRASE)
        with pytest.raises(ConfigError, match=f"passphrase for the new key, as .*: set {SERVER_PASSPHRASE}"):
            renew_certificate(out, hosts=None, valid_days=1)
        monkeypatch.setenv(SERVER_PASSPHRASE, "another")
        monkeypatch.setenv(AUTHORITY_PASSPHRASE, "wrong")
        with pytest.raises(ConfigError, match=f"private key in .*ca.key, and in {AUTHORITY_PASSPHRASE} its passphrase"):
            renew_certificate(out, hosts=None, valid_days=1)
        assert contents(out) == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
class TestEveryChange:
    def test_killed_at_any_write_the_kits_are_as_before_or_complete(self, fresh, change):
        whole = fresh()
        before = contents(whole)
        change(whole)
        complete, outcomes = changed(before, contents(whole)), []
        for out in killed_at_every_write(fresh, change):
            require_usable(out)
            found = changed(before, settled(out))
            assert found in (set(), complete)
            outcomes.append(found == complete)
        assert outcomes == sorted(outcomes)
        assert set(outcomes) == {False, True}

    def test_on_a_full_disk_too_and_the_message_says_which(self, fresh, change):
        before, said = contents(fresh()), set()
        for num_writes in itertools.count():
            out = fresh()
            with full_disk(after=num_writes):
                refused = refusal(change, out)
            if refused is None:
                break
            assert "No space left on device" in refused
            assert "\n" not in refused
            require_usable(out)
            is_unchanged = settled(out) == before
            outcome = "nothing has changed" if is_unchanged else "the change is decided, and fedmammo server start"
            assert outcome in refused
            said.add(outcome)
        assert len(said) == 2

    @pytest.mark.parametrize("umask", [0o000, 0o777])
    def test_only_the_owner_reads_the_kits(self, out, change, umask):
        before = os.umask(umask)
        try:
            change(out)
        finally:
            os.umask(before)
        for path in (out, *out.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    def test_one_at_a_time(self, out, change):
        before = contents(out)
        with kits_lock(out):
            with pytest.raises(ConfigError, match=r"Expected one process at a time in .*process .* works there"):
                change(out)
            assert changed(before, contents(out)) == {"provision.lock"}
        change(out)
        assert "provision.lock" not in contents(out)

    @pytest.mark.parametrize(
        "link", ["server", "server/sites", "server/server.yaml", "sites", "sites/WFU", "provision.lock"]
    )
    def test_links_are_refused_where_it_would_write(self, out, change, link, tmp_path):
        elsewhere, path = tmp_path / "elsewhere", out / link
        if path.exists():
            path.rename(elsewhere)
        path.symlink_to(elsewhere)
        before = contents(tmp_path)
        refused = refusal(change, out)
        after = contents(tmp_path)
        assert not [name for name in changed(before, after) if name.startswith("elsewhere")]
        assert path.is_symlink()
        if refused is not None:
            assert "to be no link" in refused
            assert after == before

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("- WFU", "- ../sites/WFU", r"sites\[1\]=../sites/WFU to be a name of"),
            ("- WFU", "- mgh", "to be distinct, ignoring case"),
            ("- WFU", "- null", r"sites\[1\]"),
            ("a.example.org", "a.example.org:9092", "DNS name or IP address"),
            ("9092", "0", r"port=0 in \[1, 65535\]"),
            ("bundle:", "bundles:", "Unknown key bundles"),
            (BUNDLE, "no-digest", "bundle=no-digest to be a SHA-256 digest"),
            ("hosts:", "host:", "Unknown key host"),
            ("hosts:", "hosts: [", "to be a YAML file"),
            ("port:", "sites: [x]\nport:", "Expected every key once, got sites"),
        ],
    )
    def test_settings_edited_by_hand_are_checked(self, out, change, old, new, message):
        path = out / "server" / "server.yaml"
        text = path.read_text()
        path.write_text(text.replace(old, new))
        assert path.read_text() != text
        before = contents(out)
        with pytest.raises(ConfigError, match=message):
            change(out)
        assert contents(out) == before

    @pytest.mark.parametrize("name", ["nowhere", "server", "file"])
    def test_a_folder_without_kits(self, out, change, name):
        (out / "file").write_text("")
        before = contents(out)
        with pytest.raises(ConfigError, match=r"Expected kits in out=.*copy its server\.yaml and its folder sites"):
            change(out / name)
        assert contents(out) == before


def test_changes_at_the_same_time(out):
    done, refused = [], []

    def add(name):
        try:
            add_sites(out, [name])
            done.append(name)
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=add, args=(f"site-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(require_usable(out).sites) == {*SITES, *done}
    assert done
    assert all("Expected one process at a time" in reason for reason in refused)
    assert len(done) + len(refused) == 8


def test_a_link_to_the_kits_is_as_good_as_their_folder(out, tmp_path):
    (tmp_path / "link").symlink_to(out)
    add_sites(tmp_path / "link", ["new"])
    assert require_usable(out).sites == (*SITES, "new")
