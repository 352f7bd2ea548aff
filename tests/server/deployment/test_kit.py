"""The server's kit: its file is read strictly, and the node ids of its sites survive."""

import json
import stat

import pytest
import yaml

from server.deployment.kit import ServerKit
from shared_model.errors import ConfigError

VALUES = {"hosts": ["federation.example.org"], "port": 9092, "sites": ["mgh", "wfu"]}


def write(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "server.yaml").write_text(text)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "server", yaml.safe_dump(VALUES))


class TestLoad:
    def test_what_the_file_says(self, folder):
        kit = ServerKit.load(folder)
        assert (kit.hosts, kit.port, kit.sites) == (("federation.example.org",), 9092, ("mgh", "wfu"))

    def test_the_folder_is_absolute_so_that_children_find_it_from_elsewhere(self, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        kit = ServerKit.load(folder.relative_to(folder.parent))
        assert kit.folder == folder.resolve()
        assert kit.state_dir == folder / "state"
        assert kit.flower_home == folder / "state" / "flower"

    def test_commands_on_this_machine_use_the_loopback(self, folder):
        assert ServerKit.load(folder).local_address == "127.0.0.1:9092"

    @pytest.mark.parametrize("changes", [{"port": "x"}, {"more": 1}, {"sites": "mgh"}, {"hosts": 3}, {"port": 9.5}])
    def test_a_wrong_value_is_refused(self, folder, changes):
        write(folder, yaml.safe_dump(VALUES | changes))
        with pytest.raises(ConfigError, match=r"the server's kit, as fedmammo server provision makes it"):
            ServerKit.load(folder)

    @pytest.mark.parametrize("key", list(VALUES))
    def test_every_key_must_be_there(self, folder, key):
        write(folder, yaml.safe_dump({name: value for name, value in VALUES.items() if name != key}))
        with pytest.raises(ConfigError, match=key):
            ServerKit.load(folder)

    @pytest.mark.parametrize("text", ["", "hosts: [", "- 1", "\x00"])
    def test_a_file_with_other_content_is_refused(self, folder, text):
        write(folder, text)
        with pytest.raises(ConfigError, match="the server's kit"):
            ServerKit.load(folder)

    def test_a_folder_without_the_file_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match=r"the server's kit.*server\.yaml"):
            ServerKit.load(tmp_path)


class TestNodeIds:
    def test_there_are_none_before_the_first_start(self, folder):
        assert ServerKit.load(folder).node_ids() == {}

    def test_they_survive(self, folder):
        kit = ServerKit.load(folder)
        kit.write_node_ids({"mgh": 2**64 - 1, "wfu": 3})
        assert ServerKit.load(folder).node_ids() == {"mgh": 2**64 - 1, "wfu": 3}

    def test_writing_replaces_all(self, folder):
        kit = ServerKit.load(folder)
        kit.write_node_ids({"mgh": 1})
        kit.write_node_ids({"wfu": 2})
        assert kit.node_ids() == {"wfu": 2}

    def test_only_the_owner_may_read_them(self, folder):
        kit = ServerKit.load(folder)
        kit.write_node_ids({"mgh": 1})
        (path,) = kit.state_dir.iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize("content", ["", "[]", "x", "3", json.dumps({"mgh": "one"}), json.dumps({"mgh": None})])
    def test_a_damaged_file_is_named(self, folder, content):
        kit = ServerKit.load(folder)
        kit.write_node_ids({})
        (path,) = kit.state_dir.iterdir()
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"Expected node ids in .*nodes\.json"):
            kit.node_ids()
