"""Whatever a peer writes, a line of ours stays one short, printable line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.system.peer_text import peer_text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("plain", "plain"),
        ("two\r\nlines\tand  blanks ", "two lines and blanks"),
        ("\x1b[2J\x1b]0;title\x07x", "[2J ]0;title x"),
        ("safe\u202eexe.txt\u200b\ud800", "safe exe.txt"),
        ("ä" * 200, "ä" * 200),
        ("ä" * 201, "ä" * 199 + "…"),
        (" " * 10**7 + "x", "…"),
    ],
)
def test_by_hand(text, line):
    assert peer_text(text) == line


@given(st.text(st.characters(exclude_categories=())), st.integers(2, 50))
def test_one_short_printable_line(text, most):
    line = peer_text(text, most)
    assert line.isprintable()
    assert len(line) <= most
    assert line == line.strip()


@given(st.text(max_size=40))
def test_what_is_plain_already_stays(text):
    line = peer_text(text)
    assert peer_text(line) == line
