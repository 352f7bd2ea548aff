"""Overrides of paths that nobody would type."""

import string

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from shared_model.config import compose
from shared_model.config.overrides import override

PARSER = OverridesParser.create()


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="$"), min_size=1))
def test_hydra_reads_back_what_was_meant(value):
    assert PARSER.parse_override(override("run.dir", value)).value() == value


@given(st.text(st.sampled_from("'\\ ,(" + string.ascii_letters[:2]), min_size=1, max_size=8))
def test_quotes_and_backslashes_in_every_order(value):
    assert PARSER.parse_override(override("run.dir", value)).value() == value


@pytest.mark.parametrize("name", ["Jörg (study)", "a, b", "[x]", "it's", "a=b", "{x: 1}", "null", "~", "8"])
def test_a_folder_of_any_name(name):
    assert compose(["preset=smoke", override("run.dir", f"/data/{name}")]).run.dir == f"/data/{name}"


def test_nothing():
    assert PARSER.parse_override(override("data.roster", None)).value() is None
