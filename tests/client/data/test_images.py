"""Lesions on disk, as CBIS-DDSM and other sites leave them."""

import csv
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from client.data.images import LesionFiles, image_paths_used, load_lesion, load_lesion_mask, read_image
from client.data.preprocessing import Box, GreyImage, resize, square_crop
from shared_model.config.choices import Denoising, ImageMode, Normalisation
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import DicomError
from shared_model.vocabulary import Laterality, View
from tests.real_data import CBIS_DDSM

RNG = np.random.default_rng(0)
FILM = RNG.integers(1, 65535, (120, 90)).astype(np.uint16)
CROP = np.ascontiguousarray(FILM[40:60, 30:50])
LESION = Box(x=30, y=40, width=20, height=20)
MASK = np.zeros((120, 90), np.uint8)
MASK[40:60, 30:50] = 255


def write_dicom(path, pixels, **attributes):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OB" if ds.BitsStored == 8 else "OW"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def config(mode, **fields):
    values = {
        "mode": mode,
        "size": 32,
        "context": 1.0,
        "normalisation": Normalisation.FULL_RANGE,
        "denoising": Denoising.NONE,
        "clahe_clip_limit": 0.0,
        "face_left": True,
        **fields,
    }
    return ImageConfig(**values)


def files(*lesion_paths, film_path=None, box=None, laterality=None):
    return LesionFiles(lesion_paths=lesion_paths, film_path=film_path, box=box, laterality=laterality)


@pytest.fixture
def crop(tmp_path):
    return write_dicom(tmp_path / "crop.dcm", CROP, SeriesDescription="cropped images")


@pytest.fixture
def mask(tmp_path):
    # The description is wrong on purpose: on CBIS-DDSM it often is.
    return write_dicom(tmp_path / "mask.dcm", MASK, SeriesDescription="cropped images")


@pytest.fixture
def film(tmp_path):
    return write_dicom(tmp_path / "film.dcm", FILM, Laterality="L")


EXPECTED_CROP = resize((CROP / 65535).astype(np.float32), 32)


class TestCropMode:
    def test_alone(self, crop):
        np.testing.assert_allclose(load_lesion(files(crop), config(ImageMode.CROP)), EXPECTED_CROP, atol=1e-6)

    @pytest.mark.parametrize("is_swapped", [False, True])
    def test_mask_is_told_by_content(self, crop, mask, is_swapped):
        paths = (mask, crop) if is_swapped else (crop, mask)
        np.testing.assert_allclose(load_lesion(files(*paths), config(ImageMode.CROP)), EXPECTED_CROP, atol=1e-6)

    def test_two_images_are_told_by_description(self, tmp_path, crop):
        other = write_dicom(tmp_path / "other.dcm", FILM, SeriesDescription="full mammogram images")
        image = load_lesion(files(other, crop), config(ImageMode.CROP))
        np.testing.assert_allclose(image, EXPECTED_CROP, atol=1e-6)

    def test_two_crops(self, tmp_path, crop):
        other = write_dicom(tmp_path / "other.dcm", CROP, SeriesDescription="cropped images")
        with pytest.raises(DicomError, match=r"Expected one crop among .*crop\.dcm, .*other\.dcm, found 2"):
            load_lesion(files(crop, other), config(ImageMode.CROP))

    def test_mask_only(self, mask):
        with pytest.raises(DicomError, match=r"Expected one crop among .*mask\.dcm, found 0"):
            load_lesion(files(mask), config(ImageMode.CROP))

    def test_no_files(self):
        with pytest.raises(DicomError, match="Expected one crop among no files, found 0"):
            load_lesion(files(), config(ImageMode.CROP))


class TestRoiMode:
    @pytest.mark.parametrize("is_swapped", [False, True])
    def test_mask_gives_the_box(self, film, crop, mask, is_swapped):
        paths = (mask, crop) if is_swapped else (crop, mask)
        image = load_lesion(files(*paths, film_path=film), config(ImageMode.ROI))
        np.testing.assert_allclose(image, EXPECTED_CROP, atol=1e-6)

    def test_box_where_there_is_no_mask(self, film, crop):
        image = load_lesion(files(crop, film_path=film, box=LESION), config(ImageMode.ROI))
        np.testing.assert_allclose(image, EXPECTED_CROP, atol=1e-6)

    def test_mask_comes_before_the_box(self, film, mask):
        elsewhere = Box(x=0, y=0, width=5, height=5)
        image = load_lesion(files(mask, film_path=film, box=elsewhere), config(ImageMode.ROI))
        np.testing.assert_allclose(image, EXPECTED_CROP, atol=1e-6)

    @pytest.mark.parametrize("factor", [2, 0.5])
    def test_mask_of_other_size_is_rescaled(self, tmp_path, film, factor):
        other = np.kron(MASK, np.ones((2, 2), np.uint8)) if factor == 2 else np.ascontiguousarray(MASK[::2, ::2])
        path = write_dicom(tmp_path / "mask.dcm", other)
        image = load_lesion(files(path, film_path=film), config(ImageMode.ROI))
        np.testing.assert_allclose(image, EXPECTED_CROP, atol=1e-6)

    def test_context(self, film, mask):
        image = load_lesion(files(mask, film_path=film), config(ImageMode.ROI, context=2.0))
        wide = square_crop((FILM / 65535).astype(np.float32), LESION, 2.0)
        np.testing.assert_allclose(image, resize(wide, 32), atol=1e-6)

    def test_mask_of_another_film(self, tmp_path, film):
        path = write_dicom(tmp_path / "mask.dcm", MASK[:, 20:60])
        with pytest.raises(DicomError, match=r"mask in the proportions of its film \(120, 90\), got \(120, 40\)"):
            load_lesion(files(path, film_path=film), config(ImageMode.ROI))

    def test_mask_that_vanishes_at_the_size_of_the_film(self, tmp_path, film):
        mask = np.zeros((1200, 900), np.uint8)
        mask[0, 0] = 1
        path = write_dicom(tmp_path / "mask.dcm", mask)
        with pytest.raises(DicomError, match="still marks a pixel"):
            load_lesion(files(path, film_path=film), config(ImageMode.ROI))

    def test_two_masks(self, tmp_path, film, mask):
        other = write_dicom(tmp_path / "other.dcm", MASK)
        with pytest.raises(DicomError, match=r"Expected one mask among .* found 2"):
            load_lesion(files(mask, other, film_path=film), config(ImageMode.ROI))

    def test_neither_mask_nor_box(self, film, crop):
        with pytest.raises(DicomError, match=r"film\.dcm: Expected a mask or a box for roi mode"):
            load_lesion(files(crop, film_path=film), config(ImageMode.ROI))

    @pytest.mark.parametrize("place", [{"x": 90}, {"y": 120}, {"width": 91}, {"height": 121}])
    def test_box_beyond_the_film(self, film, place):
        box = Box(**{"x": 0, "y": 0, "width": 5, "height": 5, **place})
        with pytest.raises(DicomError, match="on the film of 90 x 120 pixels"):
            load_lesion(files(film_path=film, box=box), config(ImageMode.ROI))

    @pytest.mark.parametrize("mode", [ImageMode.ROI, ImageMode.FILM])
    def test_no_film(self, mask, mode):
        with pytest.raises(DicomError, match=r"Expected a film for the lesion of .*mask\.dcm"):
            load_lesion(files(mask), config(mode))

    def test_mask_in_place_of_the_film(self, mask):
        with pytest.raises(DicomError, match=r"mask\.dcm: Expected a film, found a mask"):
            load_lesion(files(film_path=mask, box=LESION), config(ImageMode.ROI))


class TestFilmMode:
    def test_whole_film(self, film, mask):
        image = load_lesion(files(mask, film_path=film, box=LESION), config(ImageMode.FILM))
        np.testing.assert_allclose(image, resize((FILM / 65535).astype(np.float32), 32), atol=1e-6)


class TestLaterality:
    def test_of_the_file(self, tmp_path, crop):
        right = write_dicom(tmp_path / "right.dcm", CROP, ImageLaterality="R")
        image = load_lesion(files(right), config(ImageMode.CROP))
        np.testing.assert_allclose(image, EXPECTED_CROP[:, ::-1], atol=1e-6)

    def test_of_the_table(self, crop):
        image = load_lesion(files(crop, laterality=Laterality.RIGHT), config(ImageMode.CROP))
        np.testing.assert_allclose(image, EXPECTED_CROP[:, ::-1], atol=1e-6)

    @pytest.mark.parametrize("mode", list(ImageMode))
    def test_a_picture_that_was_mirrored_already_is_not_mirrored_again(self, tmp_path, mode):
        """A right breast, as drawn and as some archives store it: PatientOrientation tells them apart."""
        paths = [
            write_dicom(tmp_path / f"{orientation[0]}.dcm", pixels, ImageLaterality="R", PatientOrientation=orientation)
            for pixels, orientation in ((FILM, ["P", "L"]), (np.ascontiguousarray(FILM[:, ::-1]), ["A", "L"]))
        ]
        boxes = [Box(x=30, y=40, width=21, height=20), Box(x=90 - 30 - 21, y=40, width=21, height=20)]
        lesions = [files(path, film_path=path, box=box) for path, box in zip(paths, boxes, strict=True)]
        drawn, mirrored = (load_lesion(lesion, config(mode, context=1.3)) for lesion in lesions)
        np.testing.assert_array_equal(drawn, mirrored)
        assert drawn.any()
        np.testing.assert_array_equal(*(load_lesion_mask(lesion, config(mode, context=1.3)) for lesion in lesions))

    def test_disagreement(self, film):
        with pytest.raises(DicomError, match=r"film\.dcm: Expected laterality=LEFT == RIGHT of the table"):
            load_lesion(files(film_path=film, laterality=Laterality.RIGHT), config(ImageMode.FILM))


class TestImagePathsUsed:
    LESION = files(Path("a"), Path("b"), film_path=Path("film"))

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [(ImageMode.CROP, ("a", "b")), (ImageMode.ROI, ("film", "a", "b")), (ImageMode.FILM, ("film",))],
    )
    def test_by_mode(self, mode, expected):
        assert image_paths_used(self.LESION, mode) == tuple(Path(name) for name in expected)

    @pytest.mark.parametrize("mode", list(ImageMode))
    def test_nothing(self, mode):
        assert image_paths_used(files(), mode) == ()


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class TestReadImage:
    @pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
    def test_png(self, tmp_path, dtype, largest):
        path = tmp_path / "image.dat"
        path.write_bytes(png(FILM.astype(dtype)))
        grey = read_image(path)
        np.testing.assert_array_equal(grey.pixels, FILM.astype(dtype))
        assert grey.value_range == (0, largest)
        assert not grey.padding.any()

    def test_png_lesion(self, tmp_path):
        (tmp_path / "crop.png").write_bytes(png(CROP))
        (tmp_path / "mask.png").write_bytes(png(MASK))
        lesion = files(tmp_path / "mask.png", tmp_path / "crop.png")
        np.testing.assert_allclose(load_lesion(lesion, config(ImageMode.CROP)), EXPECTED_CROP, atol=1e-6)

    @pytest.mark.parametrize("channels", [3, 4])
    def test_colour_png(self, tmp_path, channels):
        path = tmp_path / "colour.png"
        path.write_bytes(png(np.zeros((5, 4, channels), np.uint8)))
        with pytest.raises(DicomError, match=r"colour\.png: Expected colour_type=\d, bit_depth=8 to be grey"):
            read_image(path)

    def test_one_bit_png(self, tmp_path):
        path = tmp_path / "bits.png"
        path.write_bytes(cv2.imencode(".png", MASK, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes())
        with pytest.raises(DicomError, match="bit_depth=1 to be grey, 8 or 16 bit"):
            read_image(path)

    def test_png_cut_anywhere(self, tmp_path):
        content = png(FILM[:20, :20])
        path = tmp_path / "cut.png"
        for length in range(8, len(content), 7):
            path.write_bytes(content[:length])
            with pytest.raises(DicomError, match=r"cut\.png: Expected a complete PNG chunk at byte \d+"):
                read_image(path)

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
    def test_png_with_flipped_bytes(self, tmp_path, flips):
        content = bytearray(png(FILM[:20, :20]))
        for position, value in flips:
            content[position % len(content)] = value
        path = tmp_path / "flipped.png"
        path.write_bytes(content)
        if content == png(FILM[:20, :20]):
            assert isinstance(read_image(path), GreyImage)
        else:
            with pytest.raises(DicomError, match=r"flipped\.png: "):
                read_image(path)

    @pytest.mark.parametrize(("width", "height"), [(0, 5), (20_001, 1), (2**31 - 1, 2**31 - 1)])
    def test_absurd_png_is_refused_before_it_is_decoded(self, tmp_path, width, height):
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
        path = tmp_path / "huge.png"
        path.write_bytes(png(MASK)[:8] + b"".join(png_chunk(kind, data) for kind, data in chunks))
        with pytest.raises(DicomError, match=rf"Expected width={width} and height={height} in \[1, 20000\]"):
            read_image(path)

    def test_png_with_too_little_data(self, tmp_path):
        header = struct.pack(">IIBBBBB", 50, 50, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(51 * 10))), (b"IEND", b"")]
        path = tmp_path / "short.png"
        path.write_bytes(png(MASK)[:8] + b"".join(png_chunk(kind, data) for kind, data in chunks))
        with pytest.raises(DicomError, match="image data can be decoded"):
            read_image(path)

    def test_png_without_header(self, tmp_path):
        path = tmp_path / "empty.png"
        path.write_bytes(png(MASK)[:8] + png_chunk(b"IEND", b""))
        with pytest.raises(DicomError, match="to start with its only header"):
            read_image(path)

    @pytest.mark.parametrize(
        ("name", "message"),
        [("absent.png", "Expected a readable file: No such file"), (".", "Expected a file, got a folder")],
    )
    def test_no_file(self, tmp_path, name, message):
        with pytest.raises(DicomError, match=message):
            read_image(tmp_path / name)

    def test_neither(self, tmp_path):
        (tmp_path / "notes.txt").write_text("lesion at two o'clock")
        with pytest.raises(DicomError, match="Expected a DICOM image"):
            read_image(tmp_path / "notes.txt")


def real_lesion(key):
    """Film, box and shipped crop of one lesion of the real data, or skip."""
    if not CBIS_DDSM.is_dir():
        pytest.skip(f"no real data at {CBIS_DDSM}")
    with (CBIS_DDSM / "mass_roi_boxes.csv").open(newline="") as table:
        row = next(row for row in csv.DictReader(table) if row["lesion_key"] == key)
    box = Box(**{name: int(row[f"roi_{name[0]}"]) for name in ("x", "y", "width", "height")})
    (film,) = (CBIS_DDSM / key.rpartition("_")[0]).rglob("*.dcm")
    (crop,) = (CBIS_DDSM / key).rglob("*.dcm")
    return film, box, crop


def correlation(one, other):
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize(
    ("key", "side", "left", "top"),
    [
        ("Mass-Test_P_00173_LEFT_CC_1", 430, -88, -164),
        ("Mass-Test_P_00173_LEFT_MLO_1", 350, -73, -110),
        ("Mass-Test_P_00820_LEFT_CC_1", 264, -6, -129),
        ("Mass-Test_P_00820_LEFT_MLO_1", 360, -83, -154),
    ],
)
def test_real_film_shows_what_the_shipped_crop_shows(key, side, left, top):
    """The shipped crops stand about 20 pixels left of and 80 above their box, so the place is given here."""
    film, box, crop = real_lesion(key)
    place = Box(x=box.x + left, y=box.y + top, width=side, height=side)
    assert place.x < box.x + box.width / 2 < place.x + side
    assert place.y < box.y + box.height / 2 < place.y + side
    cut = load_lesion(files(film_path=film, box=place), config(ImageMode.ROI, size=128))
    shipped = load_lesion(files(crop, laterality=Laterality.LEFT), config(ImageMode.CROP, size=128))
    assert correlation(cut, shipped) > 0.98
    # The shipped crop has 8 bits of the film's own maximum, the film 16 bits.
    brightest = float(read_image(film).pixels.max()) / 65535
    assert np.abs(cut / brightest - shipped).mean() < 0.01


class TestView:
    @pytest.mark.parametrize("mode", [ImageMode.CROP, ImageMode.FILM])
    @pytest.mark.parametrize(("said", "expected"), [("CC", View.CC), (None, View.CC), ("CC", None), ("XCCL", View.MLO)])
    def test_the_same_or_not_said(self, tmp_path, mode, said, expected):
        path = write_dicom(tmp_path / "a.dcm", CROP, **({} if said is None else {"ViewPosition": said}))
        is_crop = mode is ImageMode.CROP
        files = LesionFiles(
            lesion_paths=(path,) if is_crop else (),
            film_path=None if is_crop else path,
            box=None,
            laterality=None,
            view=expected,
        )
        assert load_lesion(files, config(mode)).shape == (32, 32)

    @pytest.mark.parametrize("said", ["MLO", "ML", "FB"])
    def test_another_one_is_refused(self, tmp_path, said):
        path = write_dicom(tmp_path / "a.dcm", CROP, ViewPosition=said)
        files = LesionFiles(lesion_paths=(path,), film_path=None, box=None, laterality=None, view=View.CC)
        with pytest.raises(DicomError, match=rf"a\.dcm: Expected view={said} == CC of the table\.$"):
            load_lesion(files, config(ImageMode.CROP))
