"""The index of a run's explanations."""

import dataclasses
import json
from pathlib import Path

import pytest

from server.report.explanations import (
    INDEX_FILE,
    ColumnContribution,
    Explanations,
    LesionExplanation,
    SaliencyCheck,
    read_explanations,
    write_explanations,
)

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
