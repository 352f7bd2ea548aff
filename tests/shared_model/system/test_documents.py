"""JSON and YAML documents: what is read, and that no key is given twice."""

import pytest

from shared_model.errors import ConfigError
from shared_model.system.checked import checked
from shared_model.system.documents import from_json, load_yaml


@checked()
class Settings:
    port: int
    names: tuple[str, ...]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "settings.yaml"


def test_json_gives_plain_values():
    assert from_json('{"a": [1, 2.5, null, true], "b": {"a": "\\ud800"}}') == {
        "a": [1, 2.5, None, True],
        "b": {"a": "\ud800"},
    }
    assert from_json(b"[]") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        (b"\xff", "can't decode"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ("1" * 5000, "Exceeds the limit"),
        ('{"a": 1, "b": 2, "a": 1}', r"^Expected every key once, got a more than once\.$"),
        ('[{"x": {"b": 2, "b": 1}}]', r"^Expected every key once, got b more than once\.$"),
    ],
)
def test_other_json_is_a_value_error(text, message):
    with pytest.raises(ValueError, match=message):
        from_json(text)


def test_yaml_is_read_and_checked(path):
    path.write_text("# ours\nport: 3\nnames: [é, b]\n", encoding="utf-8")
    assert load_yaml(Settings, path, what="the settings") == Settings(port=3, names=("é", "b"))


def test_merged_keys_may_be_overridden(path):
    path.write_text("<<: {port: 1, names: [a]}\nport: 2\n")
    assert load_yaml(Settings, path, what="the settings") == Settings(port=2, names=("a",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"port: [", "while parsing a flow node"),
        (b"\x00", "unacceptable character"),
        (b"\xff", "can't decode"),
        (b"[" * 5000, "recursion"),
        (b"port: 1\nport: 2\nnames: []", r"Expected every key once, got port more than once\.$"),
    ],
)
def test_what_is_no_yaml_is_said_to_be_none(path, content, message):
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=rf"^Expected the settings .*settings\.yaml to be a YAML file: .*{message}"
    ) as caught:
        load_yaml(Settings, path, what="the settings")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"Expected a mapping, got null\."),
        ("port: 1", r"Missing key names; every key must be given\."),
        ("port: one\nnames: []", r"Expected port to be a whole number, got 'one'\."),
        ("port: 1\nnames: []\nnane: 3", r"Unknown key nane\. Did you mean names\? Known here: port, names\."),
    ],
)
def test_a_wrong_value_is_named_with_its_file(path, content, message):
    path.write_text(content)
    with pytest.raises(ConfigError, match=rf"^In the settings .*settings\.yaml: {message}$"):
        load_yaml(Settings, path, what="the settings")


def test_a_missing_file(path):
    with pytest.raises(ConfigError, match=r"^Expected the settings .*settings\.yaml: No such file or directory\.$"):
        load_yaml(Settings, path, what="the settings")
