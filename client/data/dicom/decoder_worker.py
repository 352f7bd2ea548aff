"""A process that decodes one compressed frame after the other; it is run as a script and imports nothing of ours.

Some damaged images make a decoder abort its process, run on without end or ask for all memory. Here it costs this
process alone, under limits on its own memory and processor time that it takes anew for each frame.

A request is ``REQUEST`` (lengths of what follows), options as JSON and the frame; an answer is ``ANSWER`` (kind, bytes
of a sample, length) and that many bytes: samples, little-endian, or the text of a refusal.
"""

import json
import os
import resource
import signal
import struct
import sys
import time
from typing import Any, BinaryIO

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from rle.utils import decode_pixel_data

REQUEST, ANSWER = struct.Struct("<IQ"), struct.Struct("<cBQ")
DECODED, REFUSED = b"+", b"-"
_STDOUT, _STDERR = 1, 2
_MAX_COMPLAINT_BYTES = 2**16


def main() -> None:
    """Answer requests until there are no more."""
    # Ctrl-C reaches the whole group; the parent says what becomes of its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A decoder that complains without end fills no disk.
    _limit(resource.RLIMIT_FSIZE, _MAX_COMPLAINT_BYTES)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(_STDOUT), "wb")
    # What a decoder prints is no answer.
    os.dup2(_STDERR, _STDOUT)
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        length, num_bytes = REQUEST.unpack(head)
        options = json.loads(requests.read(length))
        _answer(options, requests.read(num_bytes), answers)


def _answer(options: dict[str, Any], frame: bytes, answers: BinaryIO) -> None:
    content: bytes | memoryview
    os.ftruncate(_STDERR, 0)
    os.lseek(_STDERR, 0, os.SEEK_SET)
    _limit(resource.RLIMIT_AS, options.pop("memory_bytes"))
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + options.pop("cpu_seconds"))
    try:
        samples = _decode(options, frame)
        # As they lie in memory: to copy a film costs half as much as to decode it.
        content, width = samples.reshape(-1).view(np.uint8).data, samples.dtype.itemsize
        # The JPEG library only mutters about damaged data, and goes on.
        kind = REFUSED if b"Corrupt JPEG data" in _complaint() else DECODED
        if kind == REFUSED:
            content = _complaint()
    except BaseException as error:  # noqa: BLE001, a panic of a decoder written in Rust is no Exception
        kind, width = REFUSED, 0
        # Of the decoder's own words pydicom's error says nothing; a panic says all, and prints how to trace it.
        content = (isinstance(error, Exception) and _complaint()) or _cause(error)
    answers.write(ANSWER.pack(kind, width, len(content)))
    answers.write(content)
    answers.flush()


def _decode(options: dict[str, Any], frame: bytes) -> np.ndarray[Any, Any]:
    """Return the samples ``(rows, columns)`` of one frame, little-endian."""
    plugin = options.pop("plugin")
    rows, columns, bits = options["rows"], options["columns"], options["bits_allocated"]
    if plugin == "rle":
        # Thirty times as fast as pydicom's own decoder, which drives it only where a third package is installed.
        decoded = decode_pixel_data(frame, version=2, rows=rows, columns=columns, bits_allocated=bits)
        return np.frombuffer(decoded, dtype=f"<u{bits // 8}").reshape(rows, columns)
    decoder = get_decoder(options.pop("syntax"))
    samples, _ = decoder.as_array(encapsulate([frame]), decoding_plugin=plugin, **options)
    return samples.astype(samples.dtype.newbyteorder("<"), copy=False)


def _complaint() -> bytes:
    """Return the last line that a decoder has written about this frame."""
    return os.pread(_STDERR, _MAX_COMPLAINT_BYTES, 0).strip().rpartition(b"\n")[2]


def _cause(error: BaseException) -> bytes:
    text = f"{type(error).__name__}: {error}".rpartition("available plugins:")[2].strip()
    # GDCM returns no buffer of an image that it cannot decode.
    return ("damaged data" if "NoneType" in text else text).encode(errors="replace")[:_MAX_COMPLAINT_BYTES]


def _limit(which: int, largest: int) -> None:
    """Lower a soft limit to ``largest``, or as near to it as the hard limit allows."""
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        largest = min(largest, hard)
    resource.setrlimit(which, (largest, hard))


if __name__ == "__main__":
    main()
