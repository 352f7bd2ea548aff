"""Explanations in a run folder: an index that is read strictly, and pictures that show what it says."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from server.report.explanations import (
    INDEX_FILE,
    ColumnContribution,
    Explanations,
    LesionExplanation,
    SaliencyCheck,
    draw_explanation,
    read_explanations,
    write_explanations,
)
from server.report.plot_style import BLUE, VERMILLION

LESION = LesionExplanation(
    file="0001.png",
    row=3,
    kind="missed cancer",
    score=0.25,
    image_share=None,
    columns=(ColumnContribution(column="view", logits=-0.1),),
)
CHECK = SaliencyCheck(
    method="grad_cam",
    num_lesions=4,
    num_marked=0,
    area=None,
    energy=None,
    pointing=None,
    deletion=0.4,
    deletion_random=0.5,
    insertion=0.6,
    insertion_random=0.5,
    similarity=-0.2,
)
EXPLANATIONS = Explanations(lesions=(LESION,), checks=(CHECK,))
EXPLAINED = LesionExplanation(
    file="3.png",
    row=3,
    kind="missed cancer",
    score=0.25,
    image_share=0.75,
    columns=(
        ColumnContribution(column="breast_density", logits=-0.5),
        ColumnContribution(column="laterality", logits=0.125),
        ColumnContribution(column="mass_shape", logits=2.0),
    ),
)
IMAGE = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
BOX = np.zeros((8, 8), dtype=np.bool_)
BOX[2:5, 2:5] = True


def test_the_first_files_are_read_and_written_alike(tmp_path):
    """The file is of the code before bounds stood in annotations."""
    first = Path(__file__).with_name("first_explanations.json").read_bytes()
    assert read_explanations(tmp_path) is None
    (tmp_path / INDEX_FILE).write_bytes(first)
    assert read_explanations(tmp_path) == EXPLANATIONS
    write_explanations(EXPLANATIONS, tmp_path)
    assert (tmp_path / INDEX_FILE).read_bytes() == first


@pytest.mark.parametrize(
    ("valid", "changes", "message"),
    [
        (LESION, {"file": "../0001.png"}, r"file=\.\./0001\.png to be a PNG file of this folder"),
        (LESION, {"file": "0001.svg"}, r"file=0001\.svg to be a PNG file of this folder"),
        (LESION, {"row": -1}, "row=-1 >= 0"),
        (LESION, {"score": 1.1}, r"score=1\.1 in \[0, 1\]"),
        (LESION, {"image_share": -0.1}, r"image_share=-0\.1 in \[0, 1\]"),
        (CHECK, {"num_marked": 5}, "num_marked=5 <= num_lesions=4"),
        (CHECK, {"num_marked": -1}, "num_marked=-1 >= 0"),
        (CHECK, {"insertion_random": 1.5}, r"insertion_random=1\.5 in \[0, 1\]"),
        (CHECK, {"similarity": -1.5}, r"similarity=-1\.5 in \[-1, 1\]"),
    ],
)
def test_an_impossible_explanation_does_not_exist(valid, changes, message):
    with pytest.raises(ValueError, match=rf"^Expected {type(valid).__name__}\.{message}\.$"):
        dataclasses.replace(valid, **changes)


def test_a_file_with_other_content_is_refused(tmp_path):
    write_explanations(EXPLANATIONS, tmp_path)
    values = json.loads((tmp_path / INDEX_FILE).read_text())
    del values["lesions"][0]["row"]
    (tmp_path / INDEX_FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"^Missing key index\.json\.lesions\[0\]\.row; every key must be given\.$"):
        read_explanations(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"lesions": [], "checks": [], "checks": []}'])
def test_other_content_is_refused(tmp_path, content):
    (tmp_path / INDEX_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"Expect|Missing"):
        read_explanations(tmp_path)


class TestPicture:
    def test_a_panel_for_the_image_for_every_map_and_for_the_columns(self):
        maps = [("Grad-CAM", IMAGE), ("Grad-CAM++", IMAGE)]
        image, first, second, bars = draw_explanation(EXPLAINED, IMAGE, maps, BOX).axes
        assert [axes.get_title() for axes in (image, first, second)] == ["image", "Grad-CAM", "Grad-CAM++"]
        assert [len(axes.images) for axes in (image, first, second)] == [1, 2, 2]
        assert np.array_equal(first.images[1].get_array(), IMAGE)
        assert bars.get_xlabel() == "logits; right: towards malignant"

    def test_the_title_says_what_it_is_and_how_much_the_image_counts(self):
        titles = [
            draw_explanation(lesion, IMAGE, [], None).get_suptitle()
            for lesion in (EXPLAINED, dataclasses.replace(EXPLAINED, image_share=None))
        ]
        assert titles == ["missed cancer, score 0.250, image share 0.75", "missed cancer, score 0.250"]

    def test_bars_are_sorted_by_size_and_coloured_by_direction(self):
        bars = draw_explanation(EXPLAINED, IMAGE, [], None).axes[-1]
        names = [label.get_text() for label in bars.get_yticklabels()]
        assert names == ["laterality", "breast density", "mass shape"]
        assert [bar.get_width() for bar in bars.patches] == [0.125, -0.5, 2.0]
        colours = [to_hex(bar.get_facecolor()).upper() for bar in bars.patches]
        assert colours == [VERMILLION, BLUE, VERMILLION]

    def test_the_box_is_drawn_where_it_is_known(self):
        for box, num_outlines in ((BOX, 1), (None, 0)):
            image, _ = draw_explanation(EXPLAINED, IMAGE, [], box).axes
            assert len(image.collections) == num_outlines

    def test_a_network_without_columns_says_so(self):
        bare = dataclasses.replace(EXPLAINED, columns=())
        assert draw_explanation(bare, IMAGE, [], None).axes[-1].get_xlabel() == "no clinical column"
