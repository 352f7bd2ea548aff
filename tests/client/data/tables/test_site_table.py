"""The table of one site: its own patients and nobody else's."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from client.data.tables import site_table as module
from client.data.tables.lesion_table import check_rejects
from client.data.tables.site_table import (
    read_roster,
    read_shared_table,
    restrict,
    shared_table,
    site_table,
    table_state,
)
from client.data.tables.table_notes import notes
from shared_model.config.choices import Modality
from shared_model.config.composition import compose
from shared_model.errors import ConfigError, RejectLimitError, TableError
from tests.real_data import needs_cbis_ddsm


@pytest.fixture
def config(hospital):
    return compose(hospital.overrides())


def test_missing_root(config):
    gone = dataclasses.replace(config, data=dataclasses.replace(config.data, root="/no/such/manifest.csv"))
    with pytest.raises(ConfigError, match=r"data\.root=/no/such/manifest\.csv"):
        site_table(gone, "HOME")


def test_without_a_roster_all_patients_are_the_sites_own(config, hospital):
    table = site_table(config, "HOME")
    assert set(table.frame["patient_id"]) == set(pd.read_csv(hospital.manifest)["patient_id"])
    assert read_roster(config.data) is None


class TestSharedTable:
    @pytest.fixture
    def reads(self, monkeypatch):
        """The configurations that a table was read for."""
        found = []

        def counted(config, whole=module.read_table):
            found.append(config)
            return whole(config)

        monkeypatch.setattr(module, "read_table", counted)
        monkeypatch.setattr(module, "_SHARED", [])
        return found

    def test_sites_that_begin_together_read_it_once(self, config, reads):
        with ThreadPoolExecutor(4) as pool:
            tables = list(pool.map(lambda _: shared_table(config), "ABCD"))
        assert len(reads) == 1
        pd.testing.assert_frame_equal(tables[0].frame, site_table(config, "A").frame)
        assert len(reads) == 2

    def test_what_was_read_for_all_is_theirs(self, config, reads):
        table = read_shared_table(config)
        assert shared_table(config).frame is table.frame
        assert len(reads) == 1
        # Whoever prepares reads what is there now.
        read_shared_table(config)
        assert len(reads) == 2

    def test_a_table_that_changes_is_read_again(self, config, hospital, reads):
        before = shared_table(config)
        lines = hospital.manifest.read_text().splitlines(keepends=True)
        hospital.manifest.write_text("".join(lines[:-1]))
        after = shared_table(config)
        assert len(reads) == 2
        assert len(after.frame) + len(after.rejects) == len(before.frame) + len(before.rejects) - 1

    def test_another_question_reads_another_table(self, config, reads):
        shared_table(config)
        clinical = dataclasses.replace(config.model, modality=Modality.CLINICAL)
        shared_table(dataclasses.replace(config, model=clinical))
        assert len(reads) == 2


def test_the_state_of_the_tables_is_of_every_csv_file_beside_the_images(tmp_path):
    """In the root and its folder csv, in whatever case; of nothing else."""
    for name in ("b.csv", "a.CSV", "CSV/c.Csv", "other/d.csv", "note.txt", "csv.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = table_state(tmp_path, "sites.csv")
    assert [path.removeprefix(f"{tmp_path}/") for path, _ in before] == ["a.CSV", "b.csv", "CSV/c.Csv", "sites.csv"]
    assert [state is None for _, state in before] == [False, False, False, True]
    (tmp_path / "CSV/c.Csv").write_text("longer than before")
    (tmp_path / "e.csv").touch()
    after = table_state(tmp_path, "sites.csv")
    assert len(set(after) - set(before)) == 2
    assert table_state(tmp_path / "away", None) == ((f"{tmp_path}/away", None),)


class TestRoster:
    def with_roster(self, config, hospital, text):
        (hospital.manifest.parent / "roster.csv").write_text(text)
        return dataclasses.replace(config, data=dataclasses.replace(config.data, roster="roster.csv"))

    def test_keeps_the_site_and_its_rejects_only(self, config, hospital):
        ids = pd.read_csv(hospital.manifest)["patient_id"].unique()
        text = "patient_id,site\n" + "".join(f"{p},{'HOME' if i < 5 else 'AWAY'}\n" for i, p in enumerate(ids))
        table = site_table(self.with_roster(config, hospital, text), "HOME")
        assert set(table.frame["patient_id"]) == set(ids[:5])

    def test_a_site_without_patients_is_empty_and_no_error(self, config, hospital):
        """A request must not fail for what the data hold; preflight judges them."""
        table = site_table(self.with_roster(config, hospital, "patient_id,site\nX,AWAY\n"), "HOME")
        assert len(table.frame) == len(table.excluded) == 0
        assert set(table.rejects["reason"]) == {"patient is not in the roster"}

    def test_patients_whom_the_roster_does_not_know_are_counted_and_named(self, config, hospital):
        ids = pd.read_csv(hospital.manifest)["patient_id"].unique()
        text = "patient_id,site\n" + "".join(f"{p},HOME\n" for p in ids[2:]) + f"{ids[0]},\n"
        table = site_table(self.with_roster(config, hospital, text), "HOME")
        assert set(table.frame["patient_id"]) == set(ids[2:])
        assert set(table.rejects["patient_id"]) == set(ids[:2])
        assert f"2 patients are not in the roster: {ids[0]}, {ids[1]}" in list(notes(table))
        reason = r"most common reason \(4 rows, patients .*\): patient is not in the roster"
        with pytest.raises(RejectLimitError, match=rf"= 0\.1 <= max_fraction=0\.05; {reason}"):
            check_rejects(table, 0.05)

    def test_a_patient_left_out_on_purpose_is_no_reject(self, config, hospital):
        ids = pd.read_csv(hospital.manifest)["patient_id"].unique()
        text = "patient_id,site\n" + "".join(f"{p},HOME\n" for p in ids[1:]) + f"{ids[0]},(none)\n"
        changed = self.with_roster(config, hospital, text)
        table = site_table(changed, "HOME")
        assert set(table.frame["patient_id"]) == set(read_roster(changed.data)) == set(ids[1:])
        assert len(table.rejects) == 0

    @pytest.mark.parametrize("name", ["home", " HOME ", "\uff28\uff2f\uff2d\uff25"])
    def test_names_of_sites_are_compared_folded(self, config, hospital, name):
        ids = pd.read_csv(hospital.manifest)["patient_id"].unique()
        changed = self.with_roster(config, hospital, "patient_id,site\n" + "".join(f"{p},{name}\n" for p in ids))
        assert set(site_table(changed, "HOME").frame["patient_id"]) == set(ids)
        assert set(read_roster(changed.data, sites=["HOME"]).values()) == {"HOME"}

    def test_patient_of_two_sites(self, config, hospital):
        changed = self.with_roster(config, hospital, "patient_id,site\nX,HOME\nX,AWAY\n")
        with pytest.raises(TableError, match="one site for every patient"):
            read_roster(changed.data)

    @pytest.mark.parametrize("other", ["X", "x", " X\u200b"])
    def test_a_patient_of_two_sites_is_nobodys_at_a_request(self, config, hospital, other):
        """An error would tell that there is one."""
        ids = pd.read_csv(hospital.manifest)["patient_id"].unique()
        text = "patient_id,site\n" + "".join(f"{patient},HOME\n" for patient in ids)
        whole = site_table(self.with_roster(config, hospital, text), "HOME")
        table = site_table(self.with_roster(config, hospital, f"{text}X,HOME\n{other},AWAY\n"), "HOME")
        assert table.frame.equals(whole.frame)
        table = site_table(self.with_roster(config, hospital, f"{text}{ids[0].lower()},AWAY\n"), "HOME")
        assert set(table.frame["patient_id"]) == set(ids[1:])

    def test_a_row_of_another_length_names_nobody(self, config, hospital):
        ids = pd.read_csv(hospital.manifest)["patient_id"].unique()
        changed = self.with_roster(config, hospital, f"patient_id,site\n{ids[0]},HOME\n{ids[1]}\n{ids[2]},HOME\n")
        assert set(site_table(changed, "HOME").frame["patient_id"]) == {ids[0], ids[2]}
        with pytest.raises(TableError, match=r"Row 2 of roster\.csv: Expected 2 cells in the row, got 1\."):
            read_roster(changed.data)

    def test_roster_without_site_column(self, config, hospital):
        changed = self.with_roster(config, hospital, "patient_id,place\nX,HOME\n")
        with pytest.raises(TableError, match="column site or institution"):
            read_roster(changed.data)


@needs_cbis_ddsm
class TestRealTables:
    def test_the_31_overlapping_patients_leave_the_training_side(self, real):
        table = site_table(real, None)
        assert table.excluded["patient_id"].nunique() == 31
        overlapping = set(table.excluded["patient_id"])
        assert set(table.frame[table.frame["patient_id"].isin(overlapping)]["split"]) == {"test"}

    def test_restrict_is_a_partition(self, real):
        table = site_table(real, None)
        patients = sorted(set(table.frame["patient_id"]))
        halves = restrict(table, set(patients[::2])), restrict(table, set(patients[1::2]))
        assert sum(len(half.frame) for half in halves) == len(table.frame)
