"""The declared size is written into a policy file of which nothing else changes."""

import pytest

from client.privacy.policy_file import fill_in_declared_patients


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\ndeclared_patients: null\nb: 2\n", "a: 1\ndeclared_patients: 40\nb: 2\n"),
        ("declared_patients: null  # by init\n", "declared_patients: 40  # by init\n"),
        ("declared_patients:\n# next\n", "declared_patients: 40\n# next\n"),
        ("declared_patients : ~", "declared_patients: 40"),
        ("# declared_patients: null\na: 1", "# declared_patients: null\na: 1\ndeclared_patients: 40\n"),
        ("", "declared_patients: 40\n"),
    ],
)
def test_one_line_changes(tmp_path, before, after):
    path = tmp_path / "policy.yaml"
    path.write_text(before)
    fill_in_declared_patients(path, 40)
    assert path.read_text() == after


def test_a_number_is_not_overwritten(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("declared_patients: 20\n")
    with pytest.raises(ValueError, match="Expected declared_patients to be null"):
        fill_in_declared_patients(path, 40)
    assert path.read_text() == "declared_patients: 20\n"
