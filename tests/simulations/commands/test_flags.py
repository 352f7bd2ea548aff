"""What numbers on the command line may be."""

import pytest
import typer

from simulations.commands.flags import at_least, each_at_least, positive


def test_numbers_are_read():
    assert at_least(2)("2") == 2
    assert each_at_least(0)("0") == (0,)
    assert each_at_least(0)("3,0,12") == (3, 0, 12)
    assert positive("0.5") == 0.5


def test_defaults_pass_through():
    assert each_at_least(0)(each_at_least(0)("3,0,12")) == (3, 0, 12)
    assert at_least(2)(3) == 3


@pytest.mark.parametrize(
    ("parser", "text", "message"),
    [
        (at_least(2), "1", "expected 1 >= 2"),
        (at_least(2), "two", "expected 'two' to be a whole number"),
        (each_at_least(1), "10,0", "expected 0 >= 1"),
        (each_at_least(0), "", "expected '' to be whole numbers, separated by commas"),
        (each_at_least(0), "1,", "expected '1,' to be whole numbers, separated by commas"),
        (each_at_least(0), "1,2,1", "expected 1,2,1 to be distinct"),
        (positive, "0", "expected 0.0 > 0"),
        (positive, "inf", "expected inf > 0"),
        (positive, "nan", "expected nan > 0"),
        (positive, "x", "expected 'x' to be a number"),
    ],
)
def test_others_are_refused(parser, text, message):
    with pytest.raises(typer.BadParameter, match=message):
        parser(text)
