"""What a command tells a person stands on the standard error, in one line, as it was written."""

import logging

import pytest

from shared_model.system.terminal import log_to_stderr, on_interrupt, print_error, print_note


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (ValueError("Expected [bold]x[/] in /a/[b]/c"), "error: Expected [bold]x[/] in /a/[b]/c"),
        ("first\n  second\tthird", "error: first second third"),
        ("a folder with  two spaces", "error: a folder with  two spaces"),
        ("long " * 100, "error: " + " ".join(["long"] * 100)),
    ],
)
def test_an_error_is_one_line_as_written(capsys, reason, line):
    print_error(reason)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"{line}\n"


def test_a_note_has_no_label(capsys):
    print_note("written to [folder]")
    assert capsys.readouterr().err == "written to [folder]\n"


def test_an_interrupt_carries_the_note():
    note = "the finished cells are kept"
    with pytest.raises(KeyboardInterrupt, match=note), on_interrupt(note):
        raise KeyboardInterrupt
    with on_interrupt("unused"):
        pass
    with pytest.raises(ValueError, match="another"), on_interrupt("unused"):
        raise ValueError("another")


def test_log_records_from_the_level_on_are_shown(capsys):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        log_to_stderr(logging.WARNING)
        logging.getLogger("federation").info("hidden")
        logging.getLogger("federation").warning("shown")
        captured = capsys.readouterr()
    finally:
        root.handlers[:], root.level = handlers, level
    assert captured.out == ""
    assert "shown" in captured.err
    assert "hidden" not in captured.err
