"""The children that decode: kept for the next frame, and replaced when a frame has killed one."""

import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from rle.utils import encode_pixel_data

from client.data.dicom import decoder_pool, decoder_worker
from client.data.dicom.decoder_pool import Frame, decode, stop_decoders
from shared_model.errors import DicomError

PIXELS = np.random.default_rng(0).integers(0, 5, (40, 30)).astype(np.uint16)


def dataset_of(pixels):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.RLELossless
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    return dataset


def rle_frame(pixels=PIXELS, content=None):
    return Frame(
        content=encode_pixel_data(pixels.tobytes(), dataset_of(pixels), "<") if content is None else content,
        syntax=uid.RLELossless,
        plugin="rle",
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        bits_allocated=8 * pixels.itemsize,
        bits_stored=8 * pixels.itemsize,
        is_signed=False,
        photometric_interpretation="MONOCHROME2",
    )


@pytest.fixture
def started(monkeypatch):
    """The commands of the children that are started."""
    stop_decoders()
    commands, start = [], subprocess.Popen

    def noted(command, **options):
        commands.append(command)
        return start(command, **options)

    monkeypatch.setattr(subprocess, "Popen", noted)
    yield commands
    stop_decoders()


def replace_decoding(monkeypatch, tmp_path, body):
    """Let new children run ``body`` in place of decoding."""
    script = tmp_path / "worker.py"
    source = Path(decoder_worker.__file__)
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(source.parent)!r})\nimport decoder_worker\n"
        "def answer(content):\n"
        "    os.write(next(fd for fd in range(3, 20) if is_pipe(fd)), content)\n    sys.stdin.read()\n"
        "def is_pipe(fd):\n"
        "    return os.path.exists(f'/proc/self/fd/{fd}') and 'pipe' in os.readlink(f'/proc/self/fd/{fd}')\n"
        f"def decode(options, frame):\n    {body}\ndecoder_worker._decode = decode\ndecoder_worker.main()\n"
    )
    monkeypatch.setattr(decoder_pool, "_SCRIPT", script)


def test_a_child_is_kept_for_the_next_frame(started):
    for _ in range(5):
        np.testing.assert_array_equal(decode(rle_frame()), PIXELS)
    assert len(started) == 1


def test_threads_have_a_child_each_and_their_own_answers(started):
    images = [np.full((50, 50), number, np.uint8) for number in range(40)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda pixels: decode(rle_frame(pixels)), images))
    for expected, answer in zip(images, answers, strict=True):
        np.testing.assert_array_equal(answer, expected)
    assert 1 <= len(started) <= 4


def test_a_refused_frame_leaves_its_child_at_work(started):
    with pytest.raises(DicomError, match=r"PixelData \(7FE0,0010\) that can be decoded, got ValueError: .*segment"):
        decode(rle_frame(content=encode_pixel_data(PIXELS[:9].tobytes(), dataset_of(PIXELS[:9]), "<")))
    np.testing.assert_array_equal(decode(rle_frame()), PIXELS)
    assert len(started) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.abort()", "an end of the decoder by SIGABRT"),
        ("os._exit(3)", "an end of the decoder by status 3"),
        ("os.kill(os.getpid(), 11)", "an end of the decoder by SIGSEGV"),
        ("answer(b'?' + bytes(8000))", "an end of the decoder by SIGKILL"),
        ("answer(b'+' + bytes([7]) + bytes(range(8)))", "an end of the decoder by SIGKILL"),
        ("answer(b'-' + b'\\xff' * 9)", "an end of the decoder by SIGKILL"),
        ("while True: pass", "no end within the decoder's limit of processor time"),
    ],
)
def test_a_child_that_a_frame_has_killed_is_replaced(started, monkeypatch, tmp_path, body, message):
    monkeypatch.setattr(decoder_pool, "_BASE_SECONDS", 0)
    with monkeypatch.context() as patched:
        replace_decoding(patched, tmp_path, body)
        with pytest.raises(DicomError, match=message):
            decode(rle_frame())
    np.testing.assert_array_equal(decode(rle_frame()), PIXELS)
    assert len(started) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise SystemExit('panic')", "got SystemExit: panic"),
        ("return bytearray(2**40)", "got MemoryError"),
        ("return bytearray(2**30)", "got MemoryError"),
        (
            "os.write(2, b'1\\nCorrupt JPEG data: 2\\n'); import numpy; return numpy.zeros(3)",
            "got Corrupt JPEG data: 2",
        ),
    ],
)
def test_a_child_that_fails_says_so_and_lives(started, monkeypatch, tmp_path, body, message):
    replace_decoding(monkeypatch, tmp_path, body)
    for _ in range(2):
        with pytest.raises(DicomError, match=message):
            decode(rle_frame())
    assert len(started) == 1


def test_what_a_decoder_prints_is_no_answer(started, monkeypatch, tmp_path):
    replace_decoding(monkeypatch, tmp_path, "os.write(1, b'+hello'); import numpy; return numpy.ones((40, 30), 'u2')")
    for _ in range(2):
        assert (decode(rle_frame()) == 1).all()
    assert len(started) == 1


def test_a_complaint_is_that_of_its_own_frame(started, monkeypatch, tmp_path):
    body = "os.write(2, frame); import numpy; return numpy.zeros((40, 30), numpy.uint8)"
    replace_decoding(monkeypatch, tmp_path, body)
    with pytest.raises(DicomError, match="got Corrupt JPEG data: premature end"):
        decode(rle_frame(content=b"Corrupt JPEG data: premature end"))
    assert not decode(rle_frame(content=b"fine")).any()


def test_a_decoder_that_complains_without_end_fills_no_disk(started, monkeypatch, tmp_path):
    body = "\n    ".join(["for _ in range(1000):", "    os.write(2, bytes(1000))", "raise SystemExit"])
    replace_decoding(monkeypatch, tmp_path, body)
    with pytest.raises(DicomError, match="that can be decoded"):
        decode(rle_frame())


def test_what_interrupts_the_exchange_costs_the_child(started, monkeypatch):
    """Half an answer may be in its pipe, which would pass for the next frame's."""
    decode(rle_frame())
    with monkeypatch.context() as patched:
        patched.setattr(decoder_pool.np, "frombuffer", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            decode(rle_frame())
    np.testing.assert_array_equal(decode(rle_frame()), PIXELS)
    assert len(started) == 2


def test_a_panic_is_told_in_its_own_words(started):
    """A run beyond the last pixel of 16 bits; the decoder prints how to trace it, which is no reason."""
    runs = bytes([257 - 60, 1, 257 - 60, 2])
    content = struct.pack("<16I", 2, 64, 64 + len(runs), *[0] * 13) + runs + runs
    for _ in range(2):
        with pytest.raises(DicomError, match="got PanicException: index out of bounds: the len is 200"):
            decode(rle_frame(np.zeros((10, 10), np.uint16), content))
    np.testing.assert_array_equal(decode(rle_frame()), PIXELS)
    assert len(started) == 1


def mutated(content, flips):
    damaged = bytearray(content)
    for position, value in flips:
        damaged[64 + position % (len(damaged) - 64)] = value
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data matches")
@settings(max_examples=150)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 2**32 - 1),
    flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=3),
)
def test_rle_is_decoded_as_by_pydicom(shape, dtype, seed, flips):
    """pydicom's decoder shares no code: where both accept a frame, whole or damaged, they find the same pixels."""
    rng = np.random.default_rng(seed)
    pixels = np.repeat(rng.integers(0, np.iinfo(dtype).max, shape[0]).astype(dtype)[:, None], shape[1], axis=1)
    pixels[rng.random(shape) < 0.3] = 0
    dataset = dataset_of(pixels)
    content = mutated(encode_pixel_data(pixels.tobytes(), dataset, "<"), flips)
    try:
        found = decode(rle_frame(pixels, content))
    except DicomError:
        assert flips
        return
    dataset.PixelData = encapsulate([content])
    try:
        expected, _ = get_decoder(uid.RLELossless).as_array(dataset, decoding_plugin="pydicom")
    except RuntimeError:
        # It minds bytes beyond the last pixel.
        assert flips
        return
    np.testing.assert_array_equal(found, expected)
    if not flips:
        np.testing.assert_array_equal(found, pixels)
