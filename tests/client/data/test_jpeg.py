"""Grey copies in JPEG, as people share them."""

import cv2
import numpy as np
import pytest

from client.data.images import read_image
from client.data.preprocessing import is_mask
from shared_model.errors import DicomError


def write(path, pixels, *flags):
    is_encoded, content = cv2.imencode(".jpg", pixels, list(flags))
    assert is_encoded
    path.write_bytes(content.tobytes())
    return path


def smooth():
    rows, columns = np.mgrid[:120, :90]
    return (rows + columns).astype(np.uint8)


@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_grey_values(tmp_path, flags):
    grey = read_image(write(tmp_path / "a.jpg", smooth(), *flags))
    assert grey.pixels.shape == (120, 90)
    assert grey.pixels.dtype == np.float32
    assert grey.value_range == (0.0, 255.0)
    assert np.abs(grey.pixels - smooth()).max() <= 3
    assert not is_mask(grey.pixels)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_mask_that_compression_blurred_is_a_mask_again(tmp_path, quality):
    mask = np.zeros((400, 300), dtype=np.uint8)
    cv2.ellipse(mask, (150, 200), (60, 40), 20, 0, 360, 255, -1)
    path = write(tmp_path / "a.jpg", mask, cv2.IMWRITE_JPEG_QUALITY, quality)
    assert len(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))) > 2
    grey = read_image(path)
    assert is_mask(grey.pixels)
    assert ((grey.pixels > 0) == (mask > 0)).mean() > 0.999


def test_colour_is_refused(tmp_path):
    path = write(tmp_path / "a.jpg", np.dstack([smooth()] * 3))
    with pytest.raises(DicomError, match=r"a\.jpg: Expected a grey JPEG file of 8 bits; convert it"):
        read_image(path)


def test_a_size_beyond_all_films_is_refused_before_decoding(tmp_path):
    content = bytearray(write(tmp_path / "a.jpg", smooth()).read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = (15_000).to_bytes(2, "big") * 2
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DicomError, match=r"Expected rows=15000 x columns=15000 <= 100000000 pixels"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("keep", [3, 20, 200, -100])
def test_a_cut_file_is_refused(tmp_path, keep):
    path = write(tmp_path / "a.jpg", smooth())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DicomError, match=r"a\.jpg: Expected a (JPEG file|frame header in the JPEG)"):
        read_image(path)
