"""One walk over a data root, and the choice of files by a path cell."""

import os
from pathlib import Path, PurePosixPath

import pytest

from client.data.tables import cbis_ddsm_files
from client.data.tables.cbis_ddsm_files import ImageIndex, SubjectFiles, index_images, select_files, subject_folder
from shared_model.errors import TableError

SUBJECTS = frozenset({"Mass-A", "Mass-B"})
CELLS = [PurePosixPath(subject) for subject in sorted(SUBJECTS)]


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


class TestIndex:
    def test_files_are_relative_sorted_and_only_dicom(self, tmp_path):
        touch(*(tmp_path / "Mass-A" / name for name in ("2/b.dcm", "1/a.DCM", "1/LICENSE", "c.dcm.txt")))
        assert index_images(tmp_path, CELLS).files == {
            "mass-a": SubjectFiles(paths=("Mass-A/1/a.DCM", "Mass-A/2/b.dcm"))
        }

    def test_a_subject_in_several_places_is_joined(self, tmp_path):
        touch(tmp_path / "Mass-A" / "a.dcm", tmp_path / "part 2" / "Mass-A" / "b.dcm")
        assert index_images(tmp_path, CELLS).files["mass-a"].paths == ("Mass-A/a.dcm", "part 2/Mass-A/b.dcm")

    @pytest.mark.parametrize(("depth", "is_found"), [(1, True), (3, True), (4, True), (5, False)])
    def test_how_deep_a_subject_may_lie(self, tmp_path, depth, is_found):
        touch(tmp_path.joinpath(*["folder"] * (depth - 1), "Mass-A", "a.dcm"))
        index = index_images(tmp_path, CELLS)
        assert (index.num_found, index.num_subjects) == (int(is_found), 2)
        assert ("mass-a" in index.files) == is_found

    def test_no_folder_is_listed_twice_and_no_other_subject_is_entered(self, tmp_path, monkeypatch):
        """The cost of a walk is its folders: those of the subjects, and of the others down to the last level."""
        touch(*(tmp_path / subject / series / "1.dcm" for subject in SUBJECTS for series in ("1", "2")))
        touch(*(tmp_path / "other" / "a" / "b" / str(number) / "deep" / "1.dcm" for number in range(20)))
        listed, scandir = [], os.scandir
        monkeypatch.setattr(cbis_ddsm_files.os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
        index = index_images(tmp_path, CELLS).files
        assert {subject: len(files.paths) for subject, files in index.items()} == {"mass-a": 2, "mass-b": 2}
        assert len(listed) == len(set(listed)) == 1 + 2 * 3 + 3

    def test_a_row_that_names_the_folder_of_all_hides_nothing(self, tmp_path):
        """``CBIS-DDSM/Mass-A/...`` in a path cell makes ``CBIS-DDSM`` a subject."""
        touch(*(tmp_path / "CBIS-DDSM" / subject / "1" / "1.dcm" for subject in SUBJECTS))
        plain, named = (
            index_images(tmp_path, CELLS).files,
            index_images(tmp_path, [*CELLS, PurePosixPath("CBIS-DDSM")]).files,
        )
        assert {subject: named[subject] for subject in plain} == plain
        assert len(plain) == 2

    def test_a_folder_that_cannot_be_listed_is_its_subjects_problem(self, tmp_path, monkeypatch):
        touch(*(tmp_path / subject / "1" / "1.dcm" for subject in SUBJECTS))
        scandir = os.scandir

        def fails(path):
            if str(path).endswith("Mass-A/1"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(cbis_ddsm_files.os, "scandir", fails)
        index = index_images(tmp_path, CELLS)
        assert [index.files[subject].is_unreadable for subject in ("mass-a", "mass-b")] == [True, False]
        with pytest.raises(TableError, match="image folder cannot be listed"):
            select_files(PurePosixPath("Mass-A/1/1/1.dcm"), index)
        assert len(select_files(PurePosixPath("Mass-B/1/1/1.dcm"), index)) == 1

    def test_a_link_out_of_the_root_is_not_followed_and_marks_the_subject(self, tmp_path):
        root, outside = tmp_path / "root", tmp_path / "outside"
        touch(outside / "secret.dcm", root / "Mass-A" / "a.dcm")
        (root / "Mass-A" / "link").symlink_to(outside)
        (root / "Mass-B").symlink_to(outside)
        index = index_images(root, CELLS).files
        assert index["mass-a"] == SubjectFiles(paths=("Mass-A/a.dcm",), leaves_root=True)
        assert index["mass-b"] == SubjectFiles(leaves_root=True)

    def test_links_in_a_circle_come_to_an_end(self, tmp_path):
        touch(tmp_path / "Mass-A" / "a.dcm")
        (tmp_path / "Mass-A" / "again").symlink_to(tmp_path / "Mass-A")
        paths = index_images(tmp_path, CELLS).files["mass-a"].paths
        assert {Path(path).name for path in paths} == {"a.dcm"}

    def test_a_root_that_cannot_be_listed(self, tmp_path):
        with pytest.raises(TableError, match="Expected a readable data root"):
            index_images(tmp_path / "none", CELLS)


INDEX = ImageIndex(
    root=Path("data"),
    num_subjects=3,
    num_found=2,
    files={
        "mass-a": SubjectFiles(paths=("Mass-A/study/1.1/x.dcm", "Mass-A/study/1.2/y.dcm")),
        "mass-b": SubjectFiles(leaves_root=True),
        "7.7": SubjectFiles(paths=("MG_7.7/z.dcm",)),
    },
)


class TestSelection:
    @pytest.mark.parametrize(
        ("cell", "files"),
        [
            ("Mass-A/study/1.2/000000.dcm", ("Mass-A/study/1.2/y.dcm",)),
            # No folder has the name of the series, or the cell names none: all files of the subject.
            ("Mass-A/study/9.9/000000.dcm", ("Mass-A/study/1.1/x.dcm", "Mass-A/study/1.2/y.dcm")),
            ("Mass-A/000000.dcm", ("Mass-A/study/1.1/x.dcm", "Mass-A/study/1.2/y.dcm")),
            ("Mass-C/study/1.1/000000.dcm", ()),
            # A download by series has no folder of the subject.
            ("Mass-C/study/7.7/000000.dcm", ("MG_7.7/z.dcm",)),
            ("MASS-a/study/1.2/000000.dcm", ("Mass-A/study/1.2/y.dcm",)),
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


class TestLayouts:
    CELL = PurePosixPath("Mass-Training_P_00001_LEFT_CC_1/1.2.3/1.2.4/000000.dcm")

    @pytest.mark.parametrize(
        "file",
        [
            "Mass-Training_P_00001_LEFT_CC_1/1.2.3/1.2.4/1-1.dcm",
            "CBIS-DDSM/mass-training_p_00001_left_cc_1/1.2.3/1.2.4/1-1.DCM",
            "manifest-1/CBIS-DDSM/Mass-Training_P_00001_LEFT_CC_1/07-20-2016-DDSM-1/1.000000-crop-1/1-1.dcm",
            "cbis_ddsm/Mass-Training_P_00001_LEFT_CC_1/1.2.3/MG_1.2.4/abc.dcm",
            "1.2.4/abc.dcm",
            "idc/MG_1.2.4/abc.dcm",
            "jpeg/1.2.4/1-1.jpg",
        ],
    )
    def test_the_file_is_found(self, tmp_path, file):
        touch(tmp_path / file)
        assert select_files(self.CELL, index_images(tmp_path, [self.CELL])) == (file,)

    def test_a_preview_beside_dicom_is_none(self, tmp_path):
        touch(tmp_path / "1.2.4" / "a.dcm", tmp_path / "1.2.4" / "a.jpg")
        assert select_files(self.CELL, index_images(tmp_path, [self.CELL])) == ("1.2.4/a.dcm",)

    def test_what_is_missing_says_where_it_was_looked_for(self, tmp_path):
        error = index_images(tmp_path, [self.CELL]).missing(self.CELL)
        assert str(error) == (
            "no image file: no folder 'Mass-Training_P_00001_LEFT_CC_1', or no image in it, in "
            f"{tmp_path} and 4 levels of folders below, where 0 of 1 subject folders were found"
        )
