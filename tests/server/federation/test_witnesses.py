"""Links of the sites' ledgers: what continues, what has a fork or a gap, and what becomes of the warnings."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.federation.witnesses import (
    Link,
    joined,
    observe,
    read_witnesses,
    write_witnesses,
)
from shared_model.errors import ConfigError
from shared_model.messages import TrainReply

BROKEN = "the ledger of MGH does not continue from what it showed before: it was restored or copied"
GAP = f"{BROKEN}, or replies of it never came here"


def shown(witness, previous, site="MGH"):
    return TrainReply(
        site=site,
        server_round=1,
        update={},
        num_patients_declared=10,
        privacy=None,
        witness=witness,
        previous_witness=previous,
    )


def watch(*links):
    """Show the links one after the other and return the warnings at each."""
    seen, warnings = {}, []
    for link in links:
        seen, new = observe(seen, [shown(*link)])
        warnings.append(new)
    return warnings


def chain(*names):
    """The links of one ledger."""
    return list(zip(names, ["", *names], strict=False))


class TestWhatContinues:
    @given(st.lists(st.text("abcdef", min_size=1, max_size=6), unique=True, max_size=12), st.integers(0, 12))
    def test_a_chain_that_is_seen_from_anywhere_on(self, names, first):
        assert watch(*chain(*names)[first:]) == [()] * len(chain(*names)[first:])

    def test_repeated_requests(self):
        assert watch(*chain("a", "b"), *chain("a", "b"), ("c", "b")) == [()] * 5

    def test_a_reply_that_comes_late_into_a_gap(self):
        assert watch(("a", ""), ("c", "b"), ("b", "a"))[2] == ()

    def test_replies_without_a_witness(self):
        assert watch(("a", ""), ("", ""), ("b", "a")) == [()] * 3

    def test_sites_do_not_meet(self):
        seen, warnings = observe({}, [shown("a", "", "MGH"), shown("x", "", "WFU"), shown("b", "a", "MGH")])
        assert warnings == ()
        assert seen == {
            "MGH": (Link(witness="a", previous=""), Link(witness="b", previous="a")),
            "WFU": (Link(witness="x", previous=""),),
        }


class TestWhatDoesNot:
    def test_a_ledger_that_was_put_back(self):
        assert watch(*chain("a", "b", "c"), ("d", "a"))[3] == (BROKEN,)

    def test_a_ledger_that_was_begun_anew(self):
        assert watch(("c", "b"), ("x", ""))[1] == (BROKEN,)

    def test_two_copies_that_take_turns(self):
        # Both go on from b; whoever comes second shows the fork, and every change of hands a gap.
        assert watch(*chain("a", "b"), ("c1", "b"), ("c2", "b"), ("d1", "c1"), ("d2", "c2")) == [
            (), (), (), (BROKEN,), (GAP,), (GAP,),
        ]  # fmt: skip

    def test_a_gap_may_be_replies_that_were_lost(self):
        assert watch(("a", ""), ("c", "b"))[1] == (GAP,)

    def test_it_is_said_once(self):
        assert watch(("a", ""), ("x", ""), ("y", "x"), ("x", "")) == [(), (BROKEN,), (), ()]

    @given(st.integers(2, 8), st.data())
    def test_any_older_state_of_a_ledger_that_was_watched_from_the_first(self, length, data):
        names = [f"n{number}" for number in range(length)]
        restored = data.draw(st.integers(0, length - 2))
        new = ("new", names[restored])
        assert watch(*chain(*names), new)[-1] == (BROKEN,)


def test_observing_changes_nothing_that_was_seen_before():
    before = {"MGH": (Link(witness="a", previous=""),)}
    observe(before, [shown("b", "a")])
    assert before == {"MGH": (Link(witness="a", previous=""),)}


class TestFile:
    def test_what_is_written_is_read_and_what_others_wrote_stays(self, tmp_path):
        path = tmp_path / "witnesses.json"
        first, second = ({"MGH": (Link(witness=name, previous=""),)} for name in "ab")
        assert read_witnesses(path) == {}
        write_witnesses(path, first)
        assert read_witnesses(path) == first
        write_witnesses(path, second | {"WFU": (Link(witness="x", previous="w"),)})
        assert read_witnesses(path) == joined(first, second) | {"WFU": (Link(witness="x", previous="w"),)}
        assert [link.witness for link in read_witnesses(path)["MGH"]] == ["a", "b"]

    @pytest.mark.parametrize("content", ["", "[]", '{"sites": {"MGH": ["a"]}}', '{"sites": {}, "more": 1}', "\ud800"])
    def test_another_file_is_refused_by_name(self, tmp_path, content):
        path = tmp_path / "witnesses.json"
        path.write_bytes(content.encode(errors="surrogatepass"))
        with pytest.raises(ConfigError, match=r"Expected the witnesses of the sites' ledgers in .*witnesses\.json"):
            read_witnesses(path)
        with pytest.raises(ConfigError, match=r"witnesses\.json"):
            write_witnesses(path, {})

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(ConfigError, match="Expected the witnesses"):
            read_witnesses(Path(tmp_path))

    def test_it_is_json_by_site(self, tmp_path):
        write_witnesses(tmp_path / "w.json", {"MGH": (Link(witness="b", previous="a"),)})
        assert json.loads((tmp_path / "w.json").read_text()) == {"sites": {"MGH": [{"witness": "b", "previous": "a"}]}}


NAMES = st.text("ab", min_size=1, max_size=3)
LINKS = st.lists(st.builds(lambda name, before: Link(witness=name, previous=before), NAMES, NAMES))


@given(LINKS, LINKS)
def test_joining_keeps_all_of_the_first_and_loses_nothing_of_the_second(first, second):
    first, second = dict.fromkeys(first), dict.fromkeys(second)
    links = joined({"A": tuple(first)}, {"A": tuple(second)}).get("A", ())
    assert links[: len(first)] == tuple(first)
    assert set(links) == set(first) | set(second)
    assert len(links) == len(set(links))
