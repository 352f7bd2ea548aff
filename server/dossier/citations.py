"""Citations: from ``[[results:/final/auroc|/final/auroc_interval]]`` to the figure and where it stands.

A key is a JSON pointer (RFC 6901), in which ``name=auroc`` finds the entry of a list by one of its values. A key that
is not there, or that holds nothing, is an error: no claim of the dossier stands without its figure.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared_model.errors import ConfigError

_CITATION = re.compile(r"\[\[(?P<alias>\w+):(?P<key>/[^\]|]+)(?:\|(?P<interval>/[^\]|]+))?\]\]")
_KEY = re.compile(r"(?P<alias>\w+):(?P<key>/.+)")
_SMALL, _LARGE = 0.1, 1000


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that a claim rests on."""

    number: int
    """From 1, in the order of the dossier."""
    file: str
    key: str
    interval_key: str | None
    value: object
    """As the file has it."""
    shown: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a text: words, or a figure."""

    words: str
    figure: Figure | None


@dataclass(kw_only=True)
class Citations:
    """The documents that may be cited, and the figures that have been."""

    documents: Mapping[str, tuple[str, object]]
    """Alias to file name and plain values."""
    anchors: frozenset[str]
    """Of ``report.html``."""
    figures: list[Figure] = field(default_factory=list)

    def parts(self, text: str) -> tuple[Part, ...]:
        """Return ``text`` with its citations resolved.

        Raises:
            ConfigError: a key does not exist, or there is no figure at it.
        """
        parts, end = [], 0
        for found in _CITATION.finditer(text):
            if words := text[end : found.start()]:
                parts.append(Part(words=words, figure=None))
            figure = self._cite(found["alias"], found["key"], found["interval"])
            parts.append(Part(words=figure.shown, figure=figure))
            end = found.end()
        if words := text[end:]:
            parts.append(Part(words=words, figure=None))
        return tuple(parts)

    def check(self, places: Iterable[str]) -> None:
        """Check that those of ``places`` that lie in the dossier's own files are there.

        Raises:
            ConfigError: one is not.
        """
        for place in places:
            if place.startswith("report#") and place.removeprefix("report#") not in self.anchors:
                raise ConfigError(f"Expected the section {place} in the report of the run; the dossier names it.")
            if found := _KEY.fullmatch(place):
                self._value(found["alias"], found["key"])

    def _cite(self, alias: str, key: str, interval_key: str | None) -> Figure:
        file, value = self._value(alias, key)
        shown = _shown(value)
        if interval_key is not None:
            shown += f" ({_shown(self._value(alias, interval_key)[1])})"
        same = (figure for figure in self.figures if (figure.file, figure.key, figure.shown) == (file, key, shown))
        if figure := next(same, None):
            return figure
        figure = Figure(
            number=len(self.figures) + 1, file=file, key=key, interval_key=interval_key, value=value, shown=shown
        )
        self.figures.append(figure)
        return figure

    def _value(self, alias: str, key: str) -> tuple[str, object]:
        if alias not in self.documents:
            raise ConfigError(f"Expected a citation of {', '.join(self.documents)}, got {alias!r}.")
        file, values = self.documents[alias]
        value = resolve(values, key, file)
        if value is None:
            raise ConfigError(f"Expected a figure at {key} in {file}, which a claim rests on; it is null.")
        return file, value


def resolve(values: object, key: str, file: str) -> object:
    """Return what stands at ``key`` in ``values``.

    >>> resolve({"levels": [{"level": "lesion", "fn": 3}]}, "/levels/level=lesion/fn", "results.json")
    3

    Raises:
        ConfigError: there is no such key.
    """
    found = values
    for part in key.removeprefix("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            found = _step(found, name)
        except (IndexError, KeyError, StopIteration, ValueError) as error:
            raise ConfigError(
                f"Expected the key {key} in {file}, which a claim rests on; {name!r} is missing."
            ) from error
    return found


def _step(values: object, name: str) -> object:
    if isinstance(values, Mapping):
        return values[name]
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise KeyError(name)
    field_name, is_equal, wanted = name.partition("=")
    if is_equal:
        return next(each for each in values if isinstance(each, Mapping) and str(each[field_name]) == wanted)
    return values[int(name)]


def _shown(value: object) -> str:
    if isinstance(value, Mapping) and "value" in value:
        if value["value"] is None:
            raise ConfigError(f"Expected a figure, which a claim rests on; {dict(value)} has none.")
        interval = value.get("interval")
        return _shown(value["value"]) + (f" ({_shown(interval)})" if interval else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        is_interval = len(value) == 2 and all(isinstance(each, float) for each in value)
        return (" to " if is_interval else ", ").join(_shown(each) for each in value)
    if isinstance(value, str | int):
        return str(value)
    raise ConfigError(f"Expected a number, a text or an estimate to cite, got {type(value).__name__}.")


def _number(value: float) -> str:
    return f"{value:.3f}" if value == 0 or _SMALL <= abs(value) < _LARGE else f"{value:.3g}"
