import argparse

import pytest

from simulations.arguments import at_least, each_at_least


def parsed(kind, text):
    parser = argparse.ArgumentParser()
    parser.add_argument("value", type=kind)
    return parser.parse_args([text]).value


def test_numbers_are_read():
    assert parsed(at_least(2), "2") == 2
    assert parsed(each_at_least(0), "0") == (0,)
    assert parsed(each_at_least(0), "3,0,12") == (3, 0, 12)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (at_least(2), "1", "expected 1 >= 2"),
        (at_least(2), "two", "invalid number value: 'two'"),
        (each_at_least(1), "10,0", "expected 0 >= 1"),
        (each_at_least(0), "", "invalid numbers value: ''"),
        (each_at_least(0), "1,", "invalid numbers value: '1,'"),
        (each_at_least(0), "1,2,1", "expected 1,2,1 to be distinct"),
    ],
)
def test_others_are_refused(capsys, kind, text, message):
    with pytest.raises(SystemExit, match="2"):
        parsed(kind, text)
    assert message in capsys.readouterr().err
