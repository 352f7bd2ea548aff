"""The bytes of a text file -> text, whatever program of a hospital wrote it.

What a byte means depends on the file's first bytes and on its neighbours alone: the row of one patient never changes
how that of another is read.
"""

import codecs

from shared_model.errors import TableError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # Before UTF-16, whose mark it begins with.
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_OTHER_KINDS = (
    (b"PK\x03\x04", "a workbook (.xlsx, .ods)", "open it in its program and save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old workbook (.xls)", "open it in its program and save it as CSV UTF-8"),
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"\x1f\x8b", "a compressed file", "unpack it"),
    (b"%PDF", "a PDF document", "export the table itself as CSV UTF-8"),
)
_WINDOWS = "table: Windows-1252"


def _windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Return what bytes that are no UTF-8 mean in Windows-1252, which contains the letters of Latin-1."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    # Five bytes mean nothing there.
    letters = (bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in wrong)
    return "".join(letters), error.end


codecs.register_error(_WINDOWS, _windows_1252)


def decode(content: bytes) -> str:
    """Return the text: by its byte order mark, else UTF-8; a byte that is no UTF-8 is a letter of Windows-1252.

    >>> decode("M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller".encode("latin-1")) == decode("Müller".encode())
    True

    Raises:
        TableError: it is the file of another kind of program, or cut off.
    """
    for start, kind, remedy in _OTHER_KINDS:
        if content.startswith(start):
            raise TableError(f"got {kind}; {remedy}")
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decoded(content[len(mark) :], encoding)
    return _decoded(content, _unmarked(content[:4]))


def _unmarked(start: bytes) -> str:
    """Return the encoding of a text without a mark: a letter of the header has three or one bytes of 0."""
    if len(start) == 4:
        if start[1:] == b"\0\0\0" or start[:3] == b"\0\0\0":
            return "utf-32-le" if start[0] else "utf-32-be"
        if start[1::2] == b"\0\0" and start[::2].isascii():
            return "utf-16-le"
        if start[::2] == b"\0\0" and start[1::2].isascii():
            return "utf-16-be"
    return "utf-8"


def _decoded(content: bytes, encoding: str) -> str:
    try:
        text = content.decode(encoding, errors=_WINDOWS if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise TableError(f"{error.reason} at byte {error.start}; save it again as CSV UTF-8") from error
    # A second mark comes of joining files; NUL and Ctrl-Z end the texts of some programs.
    return text.lstrip("\ufeff").rstrip("\0\x1a")
