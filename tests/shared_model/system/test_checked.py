"""Dataclasses with bounds in their annotations: what they take, what they refuse, and that nothing goes unchecked."""

import copy
import dataclasses
import math
import pickle
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import numpy as np
import pytest
from annotated_types import Ge, Gt, Interval
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import ConfigError
from shared_model.system.checked import DISTINCT, NOT_EMPTY, build, checked, require, rule, to_plain


class Fruit(StrEnum):
    APPLE = "apple"
    PEAR = "pear"


@checked(key="basket.box", error=ValueError)
class Box:
    count: Annotated[int, Interval(ge=1, lt=10)]
    fruit: Fruit | None


@checked()
class Basket:
    """A basket."""

    weight: Annotated[float, Gt(0)] | None
    name: Annotated[str, rule(str.islower, "in small letters")]
    is_full: bool
    labels: Annotated[tuple[Annotated[str, NOT_EMPTY], ...], DISTINCT]
    box: Box
    boxes: tuple[Box, ...]
    notes: Mapping[str, tuple[object, ...]]
    least: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        total = sum(box.count for box in self.boxes)
        require(self.least <= total, f"<= {total}, the number of pieces", least=self.least)

    @property
    def double(self) -> float | None:
        return None if self.weight is None else 2 * self.weight


PLAIN = {
    "weight": 1.5,
    "name": "a",
    "is_full": True,
    "labels": ["x", "y"],
    "box": {"count": 1, "fruit": None},
    "boxes": [{"count": 2, "fruit": "pear"}],
    "notes": {"k": [1, [2], None]},
}
BASKET = Basket(
    weight=1.5,
    name="a",
    is_full=True,
    labels=("x", "y"),
    box=Box(count=1, fruit=None),
    boxes=(Box(count=2, fruit=Fruit.PEAR),),
    notes={"k": (1, [2], None)},
)


def test_plain_values_become_what_the_annotations_say():
    assert build(Basket, PLAIN) == BASKET
    assert isinstance(build(Basket, PLAIN).boxes[0], Box)
    assert build(Basket, PLAIN).double == 3.0


def test_there_and_back():
    assert to_plain(BASKET) == {**PLAIN, "least": 0}
    assert list(to_plain(BASKET)) == [field.name for field in dataclasses.fields(Basket)]


def test_it_is_an_ordinary_frozen_dataclass():
    assert dataclasses.asdict(BASKET)["boxes"] == ({"count": 2, "fruit": Fruit.PEAR},)
    assert copy.deepcopy(BASKET) == pickle.loads(pickle.dumps(BASKET)) == BASKET  # noqa: S301
    assert hash(BASKET.box) == hash(Box(count=1, fruit=None))
    assert Basket.__doc__ == "A basket."
    assert dataclasses.replace(BASKET, least=2).box is BASKET.box
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field"):
        BASKET.weight = 2.0
    with pytest.raises(TypeError, match="positional"):
        Box(1, None)


@pytest.mark.parametrize("whole", [2, 0.5])
def test_a_whole_number_stands_for_a_float(whole):
    found = build(Basket, PLAIN | {"weight": whole}).weight
    assert (found, type(found)) == (whole, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": "1.5"}, "Expected weight to be a number or null, got '1.5'."),
        ({"weight": True}, "Expected weight to be a number or null, got True."),
        ({"weight": math.nan}, "Expected weight=nan to be finite."),
        ({"weight": -math.inf}, "Expected weight=-inf to be finite."),
        ({"weight": 10**400}, "Expected weight to be a number or null, got an integer of 1329 bits."),
        ({"weight": 0}, "Expected weight=0 > 0."),
        ({"name": 3}, "Expected name to be text, got 3."),
        ({"name": b"a"}, "Expected name to be text, got b'a'."),
        ({"name": "A"}, "Expected name=A in small letters."),
        ({"name": None}, "Expected name to be text, got null."),
        ({"is_full": 1}, "Expected is_full to be true or false, got 1."),
        ({"is_full": "yes"}, "Expected is_full to be true or false, got 'yes'."),
        ({"labels": "xy"}, "Expected labels to be a list, got 'xy'."),
        ({"labels": {"x"}}, "Expected labels to be a list, got {'x'}."),
        ({"labels": ["x", "x"]}, "Expected labels=['x', 'x'] to be distinct."),
        ({"labels": ["x", ""]}, "Expected labels[1]='' not to be empty."),
        ({"labels": [1]}, "Expected labels[0] to be text, got 1."),
        ({"box": None}, "Expected box to be a mapping, got null."),
        ({"box": [1]}, "Expected box to be a mapping, got [1]."),
        ({"box": {"count": 10, "fruit": None}}, "Expected box.count=10 in [1, 10)."),
        ({"box": {"count": 1.0, "fruit": None}}, "Expected box.count to be a whole number, got 1.0."),
        ({"box": {"count": True, "fruit": None}}, "Expected box.count to be a whole number, got True."),
        (
            {"box": {"count": 1, "fruit": "pears"}},
            "Expected box.fruit to be one of apple, pear, got 'pears'. Did you mean pear?",
        ),
        ({"box": {"count": 1, "fruit": 3}}, "Expected box.fruit to be one of apple, pear, got 3."),
        ({"box": {"count": 1, "fruit": b"pear"}}, "Expected box.fruit to be one of apple, pear, got b'pear'."),
        ({"boxes": [{"count": 2}]}, "Missing key boxes[0].fruit; every key must be given."),
        ({"boxes": [{}]}, "Missing keys boxes[0].count, boxes[0].fruit; every key must be given."),
        (
            {"boxes": [{"count": 1, "fruit": None}, {"coumt": 2, "fruit": 1}]},
            "Unknown key boxes[1].coumt. Did you mean boxes[1].count? Known here: count, fruit.",
        ),
        ({"boxes": [{"b": 1, "a": 0}]}, "Unknown keys boxes[0].a, boxes[0].b. Known here: count, fruit."),
        ({"box": {1: 2}}, "Unknown key box.1. Known here: count, fruit."),
        ({"notes": {1: []}}, "Expected the keys of notes to be text, got 1."),
        ({"notes": {"k": 1}}, "Expected notes.k to be a list, got 1."),
        ({"notes": []}, "Expected notes to be a mapping, got []."),
        ({"least": 3}, "Expected least=3 <= 2, the number of pieces."),
        ({"line\nfeed": 1}, "Unknown key line feed. Known here: " + ", ".join([*PLAIN, "least"]) + "."),
    ],
)
def test_one_sentence_names_key_value_and_expectation(change, message):
    with pytest.raises(ConfigError) as caught:
        build(Basket, PLAIN | change)
    assert str(caught.value) == message


@pytest.mark.parametrize(("plain", "shown"), [(None, "null"), ([], r"\[\]"), (3, "3"), ("text", "'text'")])
def test_only_a_mapping_is_a_document(plain, shown):
    with pytest.raises(ConfigError, match=rf"^Expected a mapping, got {shown}\.$"):
        build(Basket, plain)
    with pytest.raises(ConfigError, match=rf"^Expected here to be a mapping, got {shown}\.$"):
        build(Basket, plain, path="here")


def test_the_path_stands_before_every_key():
    with pytest.raises(ConfigError, match=r"^Expected fruits\.box\.count=0 in \[1, 10\)\.$"):
        build(Basket, PLAIN | {"box": {"count": 0, "fruit": None}}, path="fruits")
    with pytest.raises(ConfigError, match=r"^Expected fruits\.least=9 <= 2"):
        build(Basket, PLAIN | {"least": 9}, path="fruits")


def test_a_long_path_makes_no_key_alike_to_another():
    with pytest.raises(ConfigError, match=r"^Unknown key a\.long\.path\.surprise\. Known here: weight, "):
        build(Basket, PLAIN | {"surprise": 1}, path="a.long.path")


def test_whoever_builds_it_directly_is_told_alike():
    with pytest.raises(ValueError, match=r"^Expected basket\.box\.count=0 in \[1, 10\)\.$"):
        Box(count=0, fruit=None)
    with pytest.raises(ConfigError, match=r"^Expected Basket\.weight=-1\.0 > 0\.$"):
        dataclasses.replace(BASKET, weight=-1.0)
    with pytest.raises(ConfigError, match=r"^Unknown key Basket\.wait\. Did you mean Basket\.weight\?"):
        dataclasses.replace(BASKET, wait=1)


def test_each_class_has_its_own_error():
    with pytest.raises(ValueError, match=r"^Expected count=0 in"):
        build(Box, {"count": 0, "fruit": None})


def test_numbers_of_numpy_become_floats_and_are_no_whole_numbers():
    weight = dataclasses.replace(BASKET, weight=np.float64(0.1)).weight
    assert (weight, type(weight)) == (0.1, float)
    with pytest.raises(ValueError, match=r"^Expected basket\.box\.count to be a whole number"):
        Box(count=np.int64(1), fruit=None)


def test_a_value_error_of_another_kind_keeps_its_words_and_gets_a_key():
    @checked()
    class Dated:
        box: Box

        def __post_init__(self) -> None:
            int("x")

    @checked()
    class Diary:
        days: tuple[Dated, ...]

    with pytest.raises(ConfigError, match=r"^days\[0\]: invalid literal for int"):
        build(Diary, {"days": [{"box": PLAIN["box"]}]})


def test_a_field_of_a_dataclass_that_nobody_checks_is_refused():
    @dataclasses.dataclass
    class Loose:
        number: int

    with pytest.raises(TypeError, match=r"Expected the dataclass .*Loose.* to be checked\."):

        @checked()
        class Holder:
            loose: Loose


def test_long_values_are_shortened():
    with pytest.raises(ConfigError, match=r"^Expected name=") as caught:
        build(Basket, PLAIN | {"name": "X" * 10**6})
    assert len(str(caught.value)) < 200
    with pytest.raises(ConfigError, match=r"^Unknown key ") as caught:
        build(Basket, PLAIN | {"X" * 10**6: 1})
    assert len(str(caught.value)) < 300


@given(text=st.text())
def test_text_is_kept_to_the_last_code_point(text):
    """Law: what is not bounded comes back as it was; a path may hold bytes that are no UTF-8."""

    @checked()
    class Note:
        text: str

    assert build(Note, {"text": text}).text == text
    assert build(Note, {"text": "\ud800" + text}).text == "\ud800" + text
