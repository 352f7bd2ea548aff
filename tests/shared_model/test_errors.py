"""The tree of errors: as its docstring draws it, with a public reason each that reveals nothing."""

import inspect
import re

import pytest

from shared_model import errors
from shared_model.errors import DataError, FederatedMammographyError, LedgerError, PacsError, TimeLimitError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


def drawn_tree():
    """Return name to parent's name, read from the drawing in the module's docstring."""
    parents, path = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ((?:│   |    |├── |└── )*)(\w+Error)\b", line)
        if match:
            depth = len(match.group(1)) // 4
            del path[depth:]
            parents[match.group(2)] = path[-1] if path else None
            path.append(match.group(2))
    return parents


def test_the_drawing_is_the_tree():
    root = FederatedMammographyError
    assert drawn_tree() == {cls.__name__: None if cls is root else cls.__base__.__name__ for cls in CLASSES}


@pytest.mark.parametrize("error", CLASSES)
def test_each_has_a_public_reason_that_is_fixed(error):
    assert "/home/patient-7" not in error("/home/patient-7").public_reason
    assert error("/home/patient-7").public_reason == error.public_reason
    assert re.fullmatch(r"[a-z][a-zA-Z ,;']+[a-z]", error.public_reason)


def test_public_reasons_tell_the_classes_apart_but_those_that_may_depend_on_data():
    """Which part of a site's data failed is a fact about its patients; so may be how full its disk is, and the time."""
    of_data = [error for error in CLASSES if issubclass(error, DataError | LedgerError | PacsError | TimeLimitError)]
    others = [error for error in CLASSES if error not in of_data]
    assert {error.public_reason for error in of_data} == {FederatedMammographyError.public_reason}
    assert len({error.public_reason for error in others}) == len(others)
