"""One walk over a data root, and the choice of files by a path cell."""

import os
from pathlib import Path, PurePosixPath

import pytest

from client.data.tables import cbis_ddsm_files
from client.data.tables.cbis_ddsm_files import SubjectFiles, index_subjects, select_files, subject_folder
from shared_model.errors import TableError

SUBJECTS = frozenset({"Mass-A", "Mass-B"})


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


class TestIndex:
    def test_files_are_relative_sorted_and_only_dicom(self, tmp_path):
        touch(*(tmp_path / "Mass-A" / name for name in ("2/b.dcm", "1/a.DCM", "1/LICENSE", "c.dcm.txt")))
        assert index_subjects(tmp_path, SUBJECTS) == {
            "Mass-A": SubjectFiles(paths=("Mass-A/1/a.DCM", "Mass-A/2/b.dcm"))
        }

    def test_a_subject_in_several_places_is_joined(self, tmp_path):
        touch(tmp_path / "Mass-A" / "a.dcm", tmp_path / "part 2" / "Mass-A" / "b.dcm")
        assert index_subjects(tmp_path, SUBJECTS)["Mass-A"].paths == ("Mass-A/a.dcm", "part 2/Mass-A/b.dcm")

    def test_two_levels_down_is_too_deep(self, tmp_path):
        touch(tmp_path / "one" / "two" / "Mass-A" / "a.dcm")
        assert index_subjects(tmp_path, SUBJECTS) == {}

    def test_no_folder_is_listed_twice_and_no_other_subject_is_entered(self, tmp_path, monkeypatch):
        """The cost of a walk is its folders: those of the subjects, and one level of the others."""
        touch(*(tmp_path / subject / series / "1.dcm" for subject in SUBJECTS for series in ("1", "2")))
        touch(*(tmp_path / "other" / str(number) / "deep" / "1.dcm" for number in range(20)))
        listed, scandir = [], os.scandir
        monkeypatch.setattr(cbis_ddsm_files.os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
        index = index_subjects(tmp_path, SUBJECTS)
        assert {subject: len(files.paths) for subject, files in index.items()} == {"Mass-A": 2, "Mass-B": 2}
        assert len(listed) == len(set(listed)) == 2 + 2 * 3

    def test_a_row_that_names_the_folder_of_all_hides_nothing(self, tmp_path):
        """``CBIS-DDSM/Mass-A/...`` in a path cell makes ``CBIS-DDSM`` a subject."""
        touch(*(tmp_path / "CBIS-DDSM" / subject / "1" / "1.dcm" for subject in SUBJECTS))
        plain, named = index_subjects(tmp_path, SUBJECTS), index_subjects(tmp_path, SUBJECTS | {"CBIS-DDSM"})
        assert {subject: named[subject] for subject in SUBJECTS} == plain

    def test_a_folder_that_cannot_be_listed_is_its_subjects_problem(self, tmp_path, monkeypatch):
        touch(*(tmp_path / subject / "1" / "1.dcm" for subject in SUBJECTS))
        scandir = os.scandir

        def fails(path):
            if str(path).endswith("Mass-A/1"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(cbis_ddsm_files.os, "scandir", fails)
        index = index_subjects(tmp_path, SUBJECTS)
        assert [index[subject].is_unreadable for subject in ("Mass-A", "Mass-B")] == [True, False]
        with pytest.raises(TableError, match="image folder cannot be listed"):
            select_files(PurePosixPath("Mass-A/1/1/1.dcm"), index)
        assert len(select_files(PurePosixPath("Mass-B/1/1/1.dcm"), index)) == 1

    def test_a_link_out_of_the_root_is_not_followed_and_marks_the_subject(self, tmp_path):
        root, outside = tmp_path / "root", tmp_path / "outside"
        touch(outside / "secret.dcm", root / "Mass-A" / "a.dcm")
        (root / "Mass-A" / "link").symlink_to(outside)
        (root / "Mass-B").symlink_to(outside)
        index = index_subjects(root, SUBJECTS)
        assert index["Mass-A"] == SubjectFiles(paths=("Mass-A/a.dcm",), leaves_root=True)
        assert index["Mass-B"] == SubjectFiles(leaves_root=True)

    def test_links_in_a_circle_come_to_an_end(self, tmp_path):
        touch(tmp_path / "Mass-A" / "a.dcm")
        (tmp_path / "Mass-A" / "again").symlink_to(tmp_path / "Mass-A")
        paths = index_subjects(tmp_path, SUBJECTS)["Mass-A"].paths
        assert {Path(path).name for path in paths} == {"a.dcm"}

    def test_a_root_that_cannot_be_listed(self, tmp_path):
        with pytest.raises(TableError, match="Expected a readable data root"):
            index_subjects(tmp_path / "none", SUBJECTS)


INDEX = {
    "Mass-A": SubjectFiles(paths=("Mass-A/study/1.1/x.dcm", "Mass-A/study/1.2/y.dcm")),
    "Mass-B": SubjectFiles(leaves_root=True),
}


class TestSelection:
    @pytest.mark.parametrize(
        ("cell", "files"),
        [
            ("Mass-A/study/1.2/000000.dcm", ("Mass-A/study/1.2/y.dcm",)),
            # No folder has the name of the series, or the cell names none: all files of the subject.
            ("Mass-A/study/9.9/000000.dcm", ("Mass-A/study/1.1/x.dcm", "Mass-A/study/1.2/y.dcm")),
            ("Mass-A/000000.dcm", ("Mass-A/study/1.1/x.dcm", "Mass-A/study/1.2/y.dcm")),
            ("Mass-C/study/1.1/000000.dcm", ()),
        ],
    )
    def test_series_before_subject(self, cell, files):
        assert select_files(PurePosixPath(cell), INDEX) == files

    def test_an_empty_cell_names_nothing(self):
        assert subject_folder(None) == ""
        assert select_files(None, INDEX) == ()

    def test_a_subject_that_leaves_the_root(self):
        with pytest.raises(TableError, match="path leaves the data root"):
            select_files(PurePosixPath("Mass-B/a.dcm"), INDEX)
