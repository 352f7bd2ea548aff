"""Patient identifiers compared as people mean them, not as programs spell them.

A spreadsheet turns ``00001`` into ``1``, an export adds a no-break space, one system writes ``p12`` where another
writes ``P12``. A privacy ledger that took those for different patients would grant each of them a budget of its own.
So identifiers are compared folded; and what is no identifier at all (``unknown``, ``1.23E+11``) is refused.

    >>> fold_identifier(" p_00012 ") == fold_identifier("P_12")
    True
    >>> fold_identifier("12.0")
    '12'
"""

import re
import unicodedata

_PLACEHOLDERS = frozenset(
    """
    na n/a n.a. n.a nan nat null none nil unknown unk undefined anonymous anonymized anonymised anon missing empty
    blank test patient id patient_id patientid patient-id tbd todo #n/a #na #ref! #value! #name? #null! #num! #div/0!
    false true
    """.split()  # noqa: SIM905, a list of fifty quoted words reads worse
)
"""Folded, as all that is compared with them."""
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d+)?e[+-]?\d+")
"""What a spreadsheet makes of a long number: its last digits are lost, so that many patients look like one."""
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)[.,]0+")
_LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_MINUS = "\N{MINUS SIGN}"
_QUOTED = ('="', '"', "'")
_MAX_LENGTH = 256
"""Characters; DICOM's Patient ID has 64 at most (PS3.5, 6.2, LO)."""


def fold_identifier(text: str) -> str:
    """Return the form under which two spellings of one patient's identifier are equal.

    Compatibility forms are unified (Unicode NFKC), letters folded (``ß`` like ``ss``), spaces and invisible characters
    dropped, the ``.0`` of a number that a table stored as a fraction removed, and the leading zeros of every run of
    digits. Every dash is a hyphen, every script's digits are those of ASCII, and quotes that a program puts round an
    identifier to keep it text (``="00012"``, ``'00012``) are none of it. Folding a folded identifier changes nothing.

    Raises:
        ValueError: it names nobody: empty, a placeholder such as ``unknown``, a number in scientific notation, or too
            long. The message does not repeat it.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"Expected an identifier of length={len(text)} <= {_MAX_LENGTH} characters.")
    folded = _unquoted(_folded(text))
    if _SCIENTIFIC.fullmatch(folded):
        raise ValueError(
            "Expected an identifier as it was given, got a number in scientific notation, whose last digits a "
            "spreadsheet has lost; store the column as text."
        )
    number = _WHOLE_NUMBER.fullmatch(folded)
    if number is not None:
        folded = number[1]
    folded = _LEADING_ZEROS.sub("", folded)
    if not any(map(str.isalnum, folded)) or folded in _PLACEHOLDERS:
        raise ValueError("Expected an identifier that names a patient, got an empty cell or a placeholder.")
    return folded


def folded_or_none(text: str) -> str | None:
    """Return the folded identifier, None where it names nobody."""
    try:
        return fold_identifier(text)
    except ValueError:
        return None


def _folded(text: str) -> str:
    """Apply NFKC and case folding until nothing changes; without spaces and what no printer shows."""
    if text.isascii() and text.isprintable():
        # The same, ten times faster: a table may have a million of them.
        return text.lower().replace(" ", "")
    while True:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        folded = "".join(_plain(character) for character in folded if not _is_invisible(character))
        if folded == text:
            return folded
        text = folded


def _plain(character: str) -> str:
    """Return a hyphen for every dash and a digit of ASCII for every digit; any other character as it is."""
    if unicodedata.category(character) == "Pd" or character == _MINUS:
        return "-"
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def _unquoted(text: str) -> str:
    while text.startswith(_QUOTED):
        text = text.removeprefix("=").strip("\"'")
    return text


def _is_invisible(character: str) -> bool:
    """Return whether it is a space, a control or format character, a variation selector or another mark of no width."""
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return (
        character.isspace()
        or is_selector
        or character in "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
        or unicodedata.category(character) in {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}
    )
