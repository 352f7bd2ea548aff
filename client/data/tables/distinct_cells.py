"""Cells of a column, of which each distinct one is parsed once: a table of a million rows holds few different ones."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared_model.errors import TableError

ObjectArray = npt.NDArray[np.object_]


class Parsed(NamedTuple):
    """What the cells of ``N`` rows mean."""

    values: ObjectArray
    """``(N,)``; None where a cell has a problem."""
    problems: ObjectArray
    """``(N,)``: text, or None."""


def parse_distinct(cells: Sequence[Hashable], parse: Callable[[Any], object]) -> Parsed:
    """Apply ``parse`` to every distinct cell; a ``TableError`` or ``ValueError`` is the problem of its rows.

    >>> parse_distinct(["1", "x", "1"], int).values.tolist()
    [1, None, 1]
    """
    codes, distinct = pd.factorize(as_objects(cells), use_na_sentinel=False)
    values, problems = as_objects([None] * len(distinct)), as_objects([None] * len(distinct))
    for position, cell in enumerate(distinct):
        try:
            values[position] = parse(cell)
        except (TableError, ValueError) as error:
            problems[position] = str(error)
    return Parsed(values[codes], problems[codes])


def as_objects(values: Sequence[object] | ObjectArray) -> ObjectArray:
    """Return ``values`` as an array of objects, whatever they are; tuples stay whole."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def first_problem(*columns: ObjectArray) -> ObjectArray:
    """Return for every row the first problem among ``columns``, None where there is none."""
    found = columns[0].copy()
    for column in columns[1:]:
        is_open = pd.isna(found)
        found[is_open] = column[is_open]
    return found
