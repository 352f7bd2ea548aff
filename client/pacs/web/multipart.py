"""Bodies of ``multipart/related`` with one part (RFC 2046, RFC 2387), as DICOMweb sends and takes instances."""

import re
import secrets

from shared_model.errors import PacsError

DICOM = "application/dicom"
_BOUNDARY = re.compile(r'boundary="?([0-9A-Za-z\'()+_,./:=? -]{1,70})"?', re.IGNORECASE)


def wrapped(content: bytes) -> tuple[str, bytes]:
    """Return Content-Type and body of one instance."""
    # 128 random bits: nobody can have put it into the content.
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    return f'multipart/related; type="{DICOM}"; boundary={boundary}', head + content + f"\r\n--{boundary}--".encode()


def unwrapped(media_type: str, body: bytes) -> bytes:
    """Return the one instance of a body.

    Raises:
        PacsError: the body is no such body, or has none or several parts.
    """
    if media_type.partition(";")[0].strip().lower() == DICOM:
        return body
    named = _BOUNDARY.search(media_type)
    if not media_type.lower().startswith("multipart/related") or named is None:
        raise PacsError("Expected a multipart answer of the PACS with one DICOM file.")
    delimiter = b"--" + named[1].strip().encode()
    begin = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    head_end = body.find(b"\r\n\r\n", begin)
    end = body.find(b"\r\n" + delimiter, head_end + 2)
    if begin == 1 or head_end < 0 or end < 0:
        raise PacsError("Expected a whole multipart answer of the PACS, got a part of one.")
    if not body[end + 2 + len(delimiter) :].startswith(b"--"):
        raise PacsError("Expected one DICOM file for one identifier, got several.")
    return body[head_end + 4 : end]
