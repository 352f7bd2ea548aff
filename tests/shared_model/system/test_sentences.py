"""Messages for the person who wrote the value."""

import doctest
from enum import StrEnum

import pytest

from shared_model.system import sentences
from shared_model.system.sentences import nearest, not_one_of, quoted, shown, unknown_keys


class Colour(StrEnum):
    RED = "red"


def test_examples_in_the_docstrings():
    assert doctest.testmod(sentences).failed == 0


@pytest.mark.parametrize(
    ("value", "plain", "in_quotes"),
    [
        ("abc", "abc", "'abc'"),
        ("", "''", "''"),
        ("a\nb", r"'a\nb'", r"'a\nb'"),
        ("\ud800", r"'\ud800'", r"'\ud800'"),
        (None, "null", "null"),
        (1.5, "1.5", "1.5"),
        (2**64, "an integer of 65 bits", "an integer of 65 bits"),
        (Colour.RED, "red", "'red'"),
        ([Colour.RED, "x"], "['red', 'x']", "['red', 'x']"),
        ((1, 2), "[1, 2]", "[1, 2]"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, ...]", "[0, 1, 2, 3, 4, 5, ...]"),
    ],
)
def test_values_are_short_and_on_one_line(value, plain, in_quotes):
    assert (shown(value), quoted(value)) == (plain, in_quotes)


def test_only_what_is_near_is_proposed():
    assert nearest("trainig", ["training", "privacy"]) == "training"
    assert nearest("zzz", ["training", "privacy"]) is None


def test_few_known_keys_are_listed_and_many_are_not():
    few, many = ["colour", "size"], [f"key{number}" for number in range(13)]
    assert unknown_keys(["box.color"], near="box.colour", known=few) == (
        "Unknown key box.color. Did you mean box.colour? Known here: colour, size."
    )
    assert unknown_keys(["a", "b"], near=None, known=few) == "Unknown keys a, b. Known here: colour, size."
    assert unknown_keys(["x"], near=None, known=many) == "Unknown key x."


def test_a_wrong_choice_is_told_all_and_the_nearest():
    assert not_one_of("colour", "rad", ["red", "blue"]) == (
        "Expected colour to be one of red, blue, got 'rad'. Did you mean red?"
    )
    assert not_one_of("colour", 3, ["red"]) == "Expected colour to be one of red, got 3."
