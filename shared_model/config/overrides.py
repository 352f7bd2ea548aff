"""Hydra overrides of paths that we know and the user did not type."""

import re


def override(key: str, value: str | None) -> str:
    """Return the override that sets ``key`` to ``value``, whatever spaces, brackets, commas or quotes it has.

    For example ``run.dir='/home/J (study)/run'``. ``None`` becomes ``null``. ``${...}`` stays an interpolation.
    """
    return f"{key}=null" if value is None else f"{key}={_quoted(value)}"


def _quoted(value: str) -> str:
    # Hydra halves the backslashes before a quote and leaves all others as they are (its grammar, "Quoted values").
    doubled = re.sub(r"(\\+)(?='|\Z)", r"\1\1", value)
    return "'" + doubled.replace("'", r"\'") + "'"
