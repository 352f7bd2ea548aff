"""Private keys with and without a passphrase, and what may be one."""

import pytest

from server.deployment.certificate_authority import new_key, private_pem
from server.deployment.private_keys import is_encrypted, load_private_key, passphrase_in
from shared_model.errors import ConfigError

VARIABLE = "FEDMAMMO_TEST_PASSPHRASE"


@pytest.fixture
def key():
    return new_key()


@pytest.fixture(params=[None, "x", "höchst geheim", "x" * 1023])
def passphrase(request, monkeypatch):
    if request.param is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, request.param)
    return request.param


def test_what_was_written_is_read(tmp_path, key, passphrase):
    path = tmp_path / "key"
    path.write_bytes(private_pem(key, passphrase_in(VARIABLE)))
    assert load_private_key(path, variable=VARIABLE).private_numbers() == key.private_numbers()
    assert is_encrypted(path) == (passphrase is not None)


def test_a_key_that_is_not_encrypted_needs_no_passphrase_and_minds_none(tmp_path, key, monkeypatch):
    (tmp_path / "key").write_bytes(private_pem(key, None))
    monkeypatch.setenv(VARIABLE, "x")
    assert load_private_key(tmp_path / "key", variable=VARIABLE).private_numbers() == key.private_numbers()


@pytest.mark.parametrize("given", [None, "wrong"])
def test_a_passphrase_that_is_missing_or_wrong(tmp_path, key, monkeypatch, given):
    (tmp_path / "key").write_bytes(private_pem(key, "right"))
    if given is not None:
        monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(ConfigError, match=rf"{VARIABLE}") as refusal:
        load_private_key(tmp_path / "key", variable=VARIABLE)
    assert "right" not in str(refusal.value)
    assert "wrong" not in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", f"Expected {VARIABLE} to have 1 to 1023 bytes, got 0; unset it for none"),
        ("é" * 512, f"Expected {VARIABLE} to have 1 to 1023 bytes, got 1024"),
        ("\udcff", f"Expected {VARIABLE} to be text in UTF-8"),
    ],
)
def test_what_can_be_no_passphrase(monkeypatch, given, message):
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(ConfigError, match=message):
        passphrase_in(VARIABLE)


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=r"Expected a private key in .*key\.$"):
        load_private_key(tmp_path / "key", variable=VARIABLE)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"Expected a private key in .*key: No such file or directory\."):
        load_private_key(tmp_path / "key", variable=VARIABLE)
