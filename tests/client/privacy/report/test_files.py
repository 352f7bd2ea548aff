import stat

import pytest

from client.privacy.report.files import WRITERS, write_report


@pytest.mark.parametrize("name", ["report.html", "report.json", "report.csv", "REPORT.HTML"])
def test_the_ending_chooses_the_format_and_only_the_owner_reads_it(make_report, tmp_path, name):
    path = tmp_path / "deep" / name
    write_report(make_report(), path)
    assert path.read_text() == WRITERS[path.suffix.lower()](make_report())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_ending(make_report, tmp_path):
    with pytest.raises(KeyError, match="pdf"):
        write_report(make_report(), tmp_path / "report.pdf")
