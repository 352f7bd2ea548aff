"""The commands of the PACS: what they say where something is missing."""

import pytest
import yaml

from client.pacs import extra
from server.deployment.provision import provision
from simulations.commands.app import main


@pytest.fixture
def site(tmp_path):
    made = provision(
        out=tmp_path / "kits", sites=["mgh"], hosts=["localhost"], port=9092, valid_days=5, approved_bundles=["0" * 64]
    )
    path = made.sites["mgh"] / "site.yaml"

    def write(**pacs):
        values = yaml.safe_load(path.read_text()) | {"data_root": ".", "pacs": pacs}
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["echo"], "Expected called, host in the section pacs of site.yaml"),
        (["find", "--patient", "17"], "Expected called, host in the section pacs"),
        (["find"], "Expected a patient, an accession number, a day or a study"),
        (["find", "--patient", "*"], "without * ? and"),
        (["worklist"], "Expected called, host in the section pacs"),
        (["fetch", "1.2.3"], "Expected web_url in the section pacs"),
        (["receive"], "Expected calling in the section pacs"),
        (["send", "missing.dcm"], "missing.dcm: Expected a DICOM file"),
    ],
)
def test_what_is_missing_is_said_in_one_line(site, capsys, words, message):
    assert main(["site", "pacs", *words, "--site", site()]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(site, capsys, monkeypatch):
    monkeypatch.setattr(extra, "find_spec", lambda _: None)
    assert main(["site", "pacs", "echo", "--site", site()]) == 1
    assert "run: pip install 'federated-mammography[pacs]'" in capsys.readouterr().err


# pynetdicom forgets to close a socket that never connected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_at_the_port_is_one_line(site, capsys):
    # A port of loopback on which nobody listens: the one that only privileged programs may take.
    assert main(["site", "pacs", "echo", "--site", site(called="LAB", host="127.0.0.1", port=1)]) == 1
    said = capsys.readouterr().err
    assert "Expected LAB at 127.0.0.1:1 to answer" in said
    assert said.count("\n") == 1
