"""What is wrong with an override that Hydra refuses, for a reader who has never heard of Hydra."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared_model.config.experiment import config_keys
from shared_model.config.hydra_groups import read_override
from shared_model.system.sentences import nearest, not_one_of, shown, unknown_keys

_OVERRIDE = re.compile(r"(\+\+|\+|~)?([^=]*)(?:=(.*))?", re.DOTALL)
_REFERENCE = re.compile(r"\$\{([^:}]*)\}")


def first_fault(overrides: Sequence[str], folder: Path) -> str | None:
    """Return what is wrong with the first override that cannot be; None if each can, taken by itself.

    Args:
        overrides: of a command line that could not be composed.
        folder: ``configs/``, where a section with options has a folder of its name.
    """
    options = group_options(folder)
    faults = (_fault(override, options) for override in overrides)
    # A reference may be wrong in ways that show nowhere but in the whole.
    return next(filter(None, (*faults, *map(_reference_fault, overrides))), None)


def group_options(folder: Path) -> dict[str, list[str]]:
    """Return of every section that has options in ``folder``, which is ``configs/``, their names."""
    return {section: _options(folder / section) for section in _children("") if (folder / section).is_dir()}


def _fault(override: str, options: Mapping[str, Sequence[str]]) -> str | None:
    sign, key, value = _parts(override)
    plain = key.strip(" -.")
    if not plain or (value is None and sign != "~"):
        return _without_value(override, options)
    if key.startswith("hydra"):
        return None
    if not _is_known(key):
        return f"Expected {plain}={value}, got {shown(override)}." if _is_known(plain) else _unknown(key)
    if sign == "~":
        return f"Expected {key} to stay, since every key has a value; change it with {key}=..."
    if sign == "+":
        return f"Expected {key}={value}, got {shown(override)}."
    return _value_fault(override, key, options.get(key))


def _without_value(word: str, options: Mapping[str, Sequence[str]]) -> str:
    if word in options:
        return f"Expected a value for {word}, for example {word}={options[word][0]}"
    if _is_known(word):
        return f"Expected a value for {word}, for example {word}=..."
    meant = [f"{section}={word}" for section, names in options.items() if word in names]
    near = nearest(word, _all_keys())
    proposal = meant[0] if meant else f"{near}=..." if near else None
    question = f" Did you mean {proposal}?" if proposal else ""
    return f"Expected key=value, for example seed=1, got {shown(word)}.{question}"


def _value_fault(override: str, key: str, choices: Sequence[str] | None) -> str | None:
    assignment, value = read_override(override), _parts(override)[2]
    if assignment is None:
        return _unreadable(override, key, value or "")
    if assignment.is_sweep:
        return f"Expected one value for {key}, got {shown(value)}; a list has brackets: {key}=[...]."
    if choices and not isinstance(assignment.value, list) and assignment.value not in choices:
        return not_one_of(key, assignment.value, choices)
    if isinstance(assignment.value, dict):
        return f"Expected the keys of {key} one by one, for example {_first_leaf(key)}=..., got {shown(value)}."
    return None


def _unreadable(override: str, key: str, value: str) -> str:
    is_plain = value.isprintable() and len(value) <= 60 and not set(value) & set("\"'\\$")
    return (
        f"Expected closed brackets and quotes in {shown(override)}; text with other signs than letters, digits and "
        f"/-_.+@ needs two pairs of quotes: '{key}=\"{value if is_plain else 'a=b'}\"'."
    )


def _reference_fault(override: str) -> str | None:
    value = _parts(override)[2] or ""
    for name in _REFERENCE.findall(value):
        if not _is_known(name):
            near = nearest(name, _all_keys())
            question = f" Did you mean {near}?" if near else ""
            return f"Expected {shown(name)} in {shown(override)} to be a key of the configuration.{question}"
    return f"Expected {shown(override)} to lead to a value." if "${" in value else None


def _unknown(key: str) -> str:
    folder = key
    while folder and folder not in _sections():
        folder = folder.rpartition(".")[0]
    prefix, known = (f"{folder}." if folder else ""), _children(folder)
    # In a section that exists only its own keys can be meant; else any key, for example one without its section.
    near = nearest(key.removeprefix(prefix), known if folder else _all_keys())
    return unknown_keys([shown(key)], near=prefix + near if near else None, known=known)


def _parts(override: str) -> tuple[str, str, str | None]:
    """Return sign, key and value; the value is None without ``=``."""
    found = _OVERRIDE.fullmatch(override)
    return ("", override, None) if found is None else (found[1] or "", found[2], found[3])


def _is_known(key: str) -> bool:
    """Return whether ``key`` is a key, a section, or an entry of a list."""
    return re.sub(r"\.\d+$", "", key) in _all_keys()


def _all_keys() -> tuple[str, ...]:
    return (*config_keys(), *_sections())


def _sections() -> tuple[str, ...]:
    parents = (key.split(".")[:end] for key in config_keys() for end in range(1, key.count(".") + 1))
    return tuple(dict.fromkeys(".".join(parent) for parent in parents))


def _children(section: str) -> list[str]:
    """Return the names of keys and sections directly in ``section``; the empty one is the root."""
    prefix = f"{section}." if section else ""
    names = (key.removeprefix(prefix).split(".")[0] for key in config_keys() if key.startswith(prefix))
    return list(dict.fromkeys(names))


def _first_leaf(section: str) -> str:
    return next((key for key in config_keys() if key.startswith(f"{section}.")), section)


def _options(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))
