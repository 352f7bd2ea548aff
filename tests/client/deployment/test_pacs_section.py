import pytest
import yaml

from client.deployment.pacs_section import default_report, read_section
from client.deployment.report_kind import ReportKind
from client.deployment.site_file import SiteFile
from server.deployment.provision import provision
from shared_model.errors import ConfigError


@pytest.fixture
def settings(tmp_path):
    return lambda **values: read_section(values, tmp_path)


def test_a_short_section_is_enough_and_nobody_outside_is_listened_to(settings, tmp_path):
    pacs = settings(called="LAB", host="pacs", port=4242)
    assert pacs.listen_host == "127.0.0.1"
    assert pacs.calling == ()
    assert pacs.incoming == str(tmp_path / "incoming")
    assert pacs.report is ReportKind.COMPREHENSIVE is default_report()
    assert settings(report="cad").report is ReportKind.CAD
    with pytest.raises(ConfigError, match="Expected web_url in the section pacs"):
        pacs.require("called", "web_url")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"called": "a\\b"}, "to be an AE title"),
        ({"called": "a" * 17}, "to be an AE title"),
        ({"calling": ["A", "A"]}, "to be distinct"),
        ({"web_url": "http://pacs/dicom-web"}, "to begin with https://"),
        ({"web_url": "https://user:secret@pacs/"}, "without user"),
        ({"fhir_url": "ftp://localhost/"}, "to begin with https://"),
        ({"web_user": "reader"}, "together"),
        ({"web_user": "a", "web_password_file": "p", "web_token_file": "t"}, "one of both"),
        ({"report": "pdf"}, "report"),
        ({"port": 0}, r"in \[1, 65535\]"),
        ({"password": "secret"}, "Unknown key pacs.password"),
    ],
)
def test_a_wrong_section_is_one_line(settings, values, message):
    with pytest.raises(ConfigError, match=message) as raised:
        settings(**values)
    assert "\n" not in str(raised.value)


def test_the_site_file_has_the_section(tmp_path):
    made = provision(
        out=tmp_path / "kits", sites=["mgh"], hosts=["localhost"], port=9092, valid_days=5, approved_bundles=["0" * 64]
    )
    path = made.sites["mgh"] / "site.yaml"
    values = yaml.safe_load(path.read_text()) | {"data_root": "."}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="Expected a section pacs"):
        SiteFile.load(path).require_pacs()
    path.write_text(yaml.safe_dump(values | {"pacs": {"called": "LAB", "web_token_file": "token"}}))
    assert SiteFile.load(path).require_pacs().web_token_file == str(path.parent / "token")
