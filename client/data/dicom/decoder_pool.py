"""Compressed frames, decoded in child processes that stay for the next one; what kills a child is that file's fault.

A child costs half a second to start and a frame some milliseconds. As many children come to be as threads decode at
once; each answers one of them at a time.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.tag import Tag

from client.data.dicom.decoder_worker import ANSWER, DECODED, REFUSED, REQUEST
from shared_model.errors import DicomError

_SCRIPT = Path(__file__).with_name("decoder_worker.py")
_BASE_BYTES, _BYTES_PER_PIXEL = 3 * 2**28, 24
"""Address space of a child: its libraries take 210 MiB and what large frames left behind up to 200; GDCM holds a 16-bit
image several times, once as text."""
_BASE_SECONDS, _PIXELS_PER_SECOND = 10, 2_500_000
"""Processor time of a frame; JPEG 2000 decodes some 10 million pixels a second."""
_SAMPLE_TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32}


class Frame(NamedTuple):
    """One compressed frame, and what its file says of it in checked attributes."""

    content: bytes
    syntax: str
    plugin: str
    """``rle`` or the name of a decoding plugin of pydicom."""
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    photometric_interpretation: str


def decode(frame: Frame) -> NDArray[np.unsignedinteger]:
    """Return the samples ``(rows, columns)`` of a frame; those of signed images are their bit patterns.

    Raises:
        DicomError: they cannot be decoded, or not within the limits of memory and processor time.
        OSError: no child process can be started.
    """
    return _POOL.decode(frame)


def stop_decoders() -> None:
    """End the children that wait for work; the next frame starts one again."""
    _POOL.stop()


class _Child:
    """A process that decodes, and the file that it complains into."""

    def __init__(self) -> None:
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed with the child
        self._process = subprocess.Popen(  # noqa: S603, our own script
            [sys.executable, "-P", "-W", "ignore", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def decode(self, frame: Frame) -> NDArray[np.unsignedinteger]:
        """Send a frame and return its samples.

        Raises:
            DicomError: the child refuses the frame; it can be asked again.
            EOFError: the child has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise EOFError
        options = json.dumps(_options(frame)).encode()
        try:
            stdin.write(REQUEST.pack(len(options), len(frame.content)))
            stdin.write(options)
            stdin.write(frame.content)
            stdin.flush()
        except BrokenPipeError as error:
            raise EOFError from error
        head = stdout.read(ANSWER.size)
        if len(head) < ANSWER.size:
            raise EOFError
        kind, width, length = ANSWER.unpack(head)
        # No more than was asked for is read, whatever a damaged file has made of the child.
        shape = (frame.rows, frame.columns)
        largest = shape[0] * shape[1] * width if kind == DECODED else 2**16
        is_whole = kind == REFUSED or (kind == DECODED and width in _SAMPLE_TYPES and length == largest)
        if length > largest or not is_whole:
            self._process.kill()
            raise EOFError
        content = stdout.read(length)
        if len(content) < length:
            raise EOFError
        if kind != DECODED:
            raise _refusal(content.decode(errors="replace"))
        return np.frombuffer(content, dtype=np.dtype(_SAMPLE_TYPES[width]).newbyteorder("<")).reshape(shape)

    def last_words(self) -> str:
        """End a child that failed, and return how it ended."""
        self.end()
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            return "no end within the decoder's limit of processor time"
        return f"an end of the decoder by {signal.Signals(-code).name if code < 0 else f'status {code}'}"

    def end(self) -> None:
        """Let the child end by itself, having no more work, or else kill it."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()
        self._complaints.close()

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()
        self.end()


class _Pool:
    """Children without work, by the process that started them: after a fork they are not the copy's."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: dict[int, list[_Child]] = {}

    def decode(self, frame: Frame) -> NDArray[np.unsignedinteger]:
        child = self._take()
        try:
            samples = child.decode(frame)
        except DicomError:
            self._give_back(child)
            raise
        except EOFError:
            raise _refusal(child.last_words()) from None
        except BaseException:
            # Nobody can tell how much of the answer is still in the pipe.
            child.kill()
            raise
        self._give_back(child)
        return samples

    def stop(self) -> None:
        with self._lock:
            children = self._idle.pop(os.getpid(), [])
        for child in children:
            child.end()

    def _take(self) -> _Child:
        with self._lock:
            idle = self._idle.get(os.getpid())
            if idle:
                return idle.pop()
        return _Child()

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            self._idle.setdefault(os.getpid(), []).append(child)


_POOL = _Pool()
atexit.register(stop_decoders)


def _options(frame: Frame) -> dict[str, object]:
    num_pixels = frame.rows * frame.columns
    return {
        "memory_bytes": _BASE_BYTES + _BYTES_PER_PIXEL * num_pixels,
        "cpu_seconds": _BASE_SECONDS + num_pixels // _PIXELS_PER_SECOND,
        "plugin": frame.plugin,
        "syntax": frame.syntax,
        "rows": frame.rows,
        "columns": frame.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "bits_allocated": frame.bits_allocated,
        "bits_stored": frame.bits_stored,
        "pixel_representation": int(frame.is_signed),
        "photometric_interpretation": frame.photometric_interpretation,
        "pixel_keyword": "PixelData",
    }


def _refusal(cause: str) -> DicomError:
    return DicomError(
        f"Expected PixelData {Tag('PixelData')} that can be decoded, got {textwrap.shorten(cause, 200)}; "
        "copy or export the file again."
    )
