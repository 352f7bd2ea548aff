"""DICOM files written by pydicom and by independent encoders, whole, damaged and hostile."""

import math
import warnings
from io import BytesIO

import cv2
import gdcm
import numpy as np
import openjpeg.utils
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from client.data import image_files
from client.data.dicom.reader import read_dicom
from client.data.preprocessing import GreyImage, OtherView
from shared_model.errors import DicomError
from shared_model.vocabulary import Laterality, View

PIXELS = np.random.default_rng(0).integers(0, 4096, (72, 66)).astype(np.uint16)
PIXELS_8 = (PIXELS >> 4).astype(np.uint8)


def dataset_of(pixels, **attributes):
    """A secondary capture image; an attribute set to ``None`` is left out."""
    bits = pixels.dtype.itemsize * 8
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = attributes.pop("syntax", uid.ExplicitVRLittleEndian)
    ds.SOPClassUID, ds.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    ds.Rows, ds.Columns = pixels.shape
    values = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
        **attributes,
    }
    values.setdefault("HighBit", (values["BitsStored"] or 1) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in values.items():
            if value is not None:
                setattr(ds, keyword, value)
    if "PixelData" in ds:
        ds["PixelData"].VR = "OB" if bits == 8 or ds.file_meta.TransferSyntaxUID.is_compressed else "OW"
    return ds


def write(ds, path):
    ds.save_as(path, enforce_file_format=True)
    return path


def read(tmp_path, pixels=PIXELS, **attributes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(dataset_of(pixels, **attributes), tmp_path / "image.dcm")
    return read_dicom(path)


def jpeg_2000(pixels, **attributes):
    codestream = bytes(openjpeg.utils.encode_array(pixels))
    return dataset_of(pixels, PixelData=encapsulate([codestream]), syntax=uid.JPEG2000Lossless, **attributes)


def jpeg_baseline(pixels):
    codestream = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    return dataset_of(pixels, PixelData=encapsulate([codestream]), syntax=uid.JPEGBaseline8Bit)


def write_jpeg_lossless(pixels, path):
    write(dataset_of(pixels, Modality="MG"), path)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


def look_up_table(values, first, bits, *, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values) % 65536, first, bits])
    data = np.asarray(values, dtype="<u2")
    item.add_new("LUTData", vr, data.tobytes() if vr == "OW" else data.tolist())
    return [item]


class TestStoredValues:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_full_depth(self, tmp_path, dtype):
        pixels = PIXELS.astype(dtype)
        grey = read(tmp_path, pixels)
        np.testing.assert_array_equal(grey.pixels, pixels)
        assert grey.pixels.dtype == np.float32
        assert grey.value_range == (0, np.iinfo(dtype).max)
        assert not grey.padding.any()
        assert (grey.laterality, grey.view, grey.series_description) == (None, None, "")

    @pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
    def test_syntax(self, tmp_path, syntax):
        np.testing.assert_array_equal(read(tmp_path, syntax=syntax).pixels, PIXELS)

    def test_big_endian(self, tmp_path):
        ds = dataset_of(PIXELS, PixelData=PIXELS.astype(">u2").tobytes(), syntax=uid.ExplicitVRBigEndian)
        np.testing.assert_array_equal(read_dicom(write(ds, tmp_path / "image.dcm")).pixels, PIXELS)

    def test_overlay_bits_are_ignored(self, tmp_path):
        grey = read(tmp_path, PIXELS | np.uint16(0xA000), BitsStored=12)
        np.testing.assert_array_equal(grey.pixels, PIXELS)
        assert grey.value_range == (0, 4095)

    def test_signed(self, tmp_path):
        pixels = PIXELS.astype(np.int16) - 2048
        grey = read(tmp_path, pixels)
        np.testing.assert_array_equal(grey.pixels, pixels)
        assert grey.value_range == (-32768, 32767)

    def test_signed_with_overlay_bits(self, tmp_path):
        pixels = PIXELS.astype(np.int16) - 2048
        stored = ((pixels & 0x0FFF) | 0x5000).astype(np.int16)
        grey = read(tmp_path, stored, BitsStored=12)
        np.testing.assert_array_equal(grey.pixels, pixels)
        assert grey.value_range == (-2048, 2047)

    def test_odd_number_of_bytes(self, tmp_path):
        pixels = PIXELS_8[:3, :5]
        np.testing.assert_array_equal(read(tmp_path, pixels, PixelData=pixels.tobytes() + b"\0").pixels, pixels)


class TestCompressed:
    @pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless])
    @pytest.mark.parametrize("pixels", [PIXELS, PIXELS_8], ids=["16 bit", "8 bit"])
    def test_lossless(self, tmp_path, syntax, pixels):
        ds = dataset_of(pixels)
        ds.compress(syntax, generate_instance_uid=False)
        np.testing.assert_array_equal(read_dicom(write(ds, tmp_path / "image.dcm")).pixels, pixels)

    @pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data matches")
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
        dtype=st.sampled_from(["uint8", "int8", "uint16", "int16"]),
        seed=st.integers(0, 2**32 - 1),
        data=st.data(),
    )
    def test_rle_reads_as_uncompressed(self, tmp_path, shape, dtype, seed, data):
        """Of every shape, depth and sign; pydicom's own encoder shares no code with the decoder."""
        bits = data.draw(st.integers(1, np.iinfo(dtype).bits))
        rng = np.random.default_rng(seed)
        pixels = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
        pixels[rng.random(shape) < 0.4] = 0
        expected = read(tmp_path, pixels, BitsStored=bits)
        ds = dataset_of(pixels)
        ds.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        ds.BitsStored, ds.HighBit = bits, bits - 1
        found = read_dicom(write(ds, tmp_path / "image.dcm"))
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert found.value_range == expected.value_range

    def test_jpeg_2000(self, tmp_path):
        np.testing.assert_array_equal(read_dicom(write(jpeg_2000(PIXELS), tmp_path / "image.dcm")).pixels, PIXELS)

    def test_jpeg_lossless(self, tmp_path):
        path = write_jpeg_lossless(PIXELS, tmp_path / "image.dcm")
        assert dcmread(path).file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1
        np.testing.assert_array_equal(read_dicom(path).pixels, PIXELS)

    def test_jpeg_baseline_is_near(self, tmp_path):
        smooth = cv2.GaussianBlur(PIXELS_8, (0, 0), 3)
        grey = read_dicom(write(jpeg_baseline(smooth), tmp_path / "image.dcm"))
        np.testing.assert_allclose(grey.pixels, smooth, atol=2)

    @pytest.mark.parametrize("num_fill", [1, 7])
    def test_fill_bytes_before_markers(self, tmp_path, num_fill):
        """ISO/IEC 10918-1, B.1.1.2: any marker may be preceded by bytes 0xFF."""
        path = write_jpeg_lossless(PIXELS, tmp_path / "image.dcm")
        ds = dcmread(path)
        codestream = get_frame(ds.PixelData, 0, number_of_frames=1)
        assert codestream.count(b"\xff\xc3") == 1
        filled = codestream.replace(b"\xff\xc3", b"\xff" * num_fill + b"\xff\xc3")
        ds.PixelData = encapsulate([filled])
        np.testing.assert_array_equal(read_dicom(write(ds, path)).pixels, PIXELS)

    def test_jpeg_extended_of_8_bits(self, tmp_path):
        smooth = cv2.GaussianBlur(PIXELS_8, (0, 0), 3)
        ds = jpeg_baseline(smooth)
        ds.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
        np.testing.assert_allclose(read_dicom(write(ds, tmp_path / "image.dcm")).pixels, smooth, atol=2)

    def test_jpeg_extended_of_12_bits_is_refused_and_says_what_to_do(self, tmp_path):
        ds = jpeg_baseline(PIXELS_8)
        ds.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        with pytest.raises(DicomError, match=r"BitsStored \(0028,0101\)=12 to be 8 in JPEG Extended; export"):
            read_dicom(write(ds, tmp_path / "image.dcm"))

    def test_samples_of_more_bits_than_the_file_allocates(self, tmp_path):
        ds = jpeg_2000(PIXELS)
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit = 7
        with pytest.raises(DicomError, match="codestream precision=12 <= BitsAllocated=8"):
            read_dicom(write(ds, tmp_path / "image.dcm"))

    def test_a_segment_too_few(self, tmp_path):
        ds = dataset_of(PIXELS_8)
        ds.compress(uid.RLELossless, generate_instance_uid=False)
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit = 15
        with pytest.raises(DicomError, match="Expected 1 RLE segments to be one for each of BitsAllocated=16 / 8"):
            read_dicom(write(ds, tmp_path / "image.dcm"))

    def test_cut_codestream(self, tmp_path):
        ds = jpeg_2000(PIXELS)
        ds.PixelData = encapsulate([bytes(openjpeg.utils.encode_array(PIXELS))[:2000]])
        with pytest.raises(DicomError, match="end-of-image marker"):
            read_dicom(write(ds, tmp_path / "image.dcm"))

    @pytest.mark.parametrize("make", [jpeg_2000, jpeg_baseline])
    def test_codestream_of_other_size(self, tmp_path, make):
        ds = make(PIXELS_8)
        ds.Rows = 36
        with pytest.raises(
            DicomError, match=r"codestream \(rows, columns, components\)=\(72, 66, 1\) == \(36, 66, 1\)"
        ):
            read_dicom(write(ds, tmp_path / "image.dcm"))

    def test_damaged_codestream(self, tmp_path):
        ds = jpeg_baseline(PIXELS_8)
        codestream = bytearray(cv2.imencode(".jpg", PIXELS_8)[1].tobytes())
        codestream[1000:1400] = b"\xff\xd1" * 200
        ds.PixelData = encapsulate([bytes(codestream)])
        with pytest.raises(DicomError, match=r"PixelData \(7FE0,0010\) that can be decoded, got Corrupt JPEG data"):
            read_dicom(write(ds, tmp_path / "image.dcm"))

    def test_damaged_rle(self, tmp_path):
        ds = dataset_of(PIXELS)
        ds.compress(uid.RLELossless, generate_instance_uid=False)
        ds.PixelData = encapsulate([ds.PixelData[16:3000]])
        with pytest.raises(DicomError, match="RLE header with offsets in order, got 9708 segments"):
            read_dicom(write(ds, tmp_path / "image.dcm"))


class TestGreyValues:
    def test_monochrome_1_is_inverted(self, tmp_path):
        grey = read(tmp_path, PIXELS, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
        np.testing.assert_array_equal(grey.pixels, 4095 - PIXELS.astype(np.float32))
        assert grey.value_range == (0, 4095)

    def test_rescale(self, tmp_path):
        grey = read(tmp_path, PIXELS, BitsStored=12, RescaleSlope=0.5, RescaleIntercept=-100)
        np.testing.assert_array_equal(grey.pixels, PIXELS * 0.5 - 100)
        assert grey.value_range == (-100, 1947.5)

    def test_linear_window_by_hand(self, tmp_path):
        # PS3.3 C.11.2.1.2.1 with c = 2048, w = 4096: 0 at stored 0, 1 at stored 4095.
        grey = read(tmp_path, np.array([[0, 1024, 4095]], np.uint16), WindowCenter=2048, WindowWidth=4096)
        np.testing.assert_allclose(grey.pixels, [[0, 1024 / 4095, 1]], rtol=1e-6)
        assert grey.value_range == (0, 1)

    def test_window_of_width_1_is_a_step(self, tmp_path):
        grey = read(tmp_path, np.array([[99, 100, 101]], np.uint16), WindowCenter=100.5, WindowWidth=1)
        np.testing.assert_array_equal(grey.pixels, [[0, 0, 1]])

    def test_range_of_a_window_beyond_the_stored_values(self, tmp_path):
        grey = read(tmp_path, PIXELS_8, WindowCenter=200, WindowWidth=200, VOILUTFunction="LINEAR_EXACT")
        np.testing.assert_allclose(grey.value_range, (0, (255 - 200) / 200 + 0.5))

    @pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize("rescale", [(1, 0), (2.5, -700)])
    def test_windows_as_pydicom(self, tmp_path, function, rescale):
        attributes = {"WindowCenter": [1500, 7], "WindowWidth": [900.5, 1], "VOILUTFunction": function}
        attributes |= dict(zip(("RescaleSlope", "RescaleIntercept"), rescale, strict=True))
        grey = read(tmp_path, BitsStored=12, **attributes)
        ds = dcmread(tmp_path / "image.dcm")
        expected = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds)
        lowest, highest = rescale[1], 4095 * rescale[0] + rescale[1]
        np.testing.assert_allclose(grey.pixels, (expected - lowest) / (highest - lowest), atol=1e-6)

    def test_sigmoid_far_away_does_not_overflow(self, tmp_path):
        grey = read(tmp_path, WindowCenter=100, WindowWidth=0.01, VOILUTFunction="SIGMOID")
        assert grey.value_range == (0, 1)

    @pytest.mark.parametrize("vr", ["US", "OW"])
    @pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
    def test_tables_as_pydicom(self, tmp_path, keyword, vr):
        table = np.arange(1000) * 60 % 50_000
        grey = read(tmp_path, **{keyword: look_up_table(table, 300, 16, vr=vr)})
        ds = dcmread(tmp_path / "image.dcm")
        np.testing.assert_array_equal(grey.pixels, apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds))
        assert grey.value_range == (table.min(), table.max())

    def test_table_before_window(self, tmp_path):
        table = look_up_table(np.arange(4096)[::-1], 0, 12)
        grey = read(tmp_path, VOILUTSequence=table, WindowCenter=5, WindowWidth=3)
        np.testing.assert_array_equal(grey.pixels, 4095 - PIXELS.astype(np.float32))

    def test_table_from_a_negative_value(self, tmp_path):
        pixels = np.array([[-9, -2, -1, 0, 5]], np.int16)
        grey = read(tmp_path, pixels, ModalityLUTSequence=look_up_table([10, 20, 30], 65534, 8))
        np.testing.assert_array_equal(grey.pixels, [[10, 10, 20, 30, 30]])

    def test_table_of_packed_bytes(self, tmp_path):
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [4, 0, 8])
        item.add_new("LUTData", "OW", bytes([5, 6, 9, 7]))
        grey = read(tmp_path, np.array([[0, 1, 2, 3]], np.uint8), VOILUTSequence=[item])
        np.testing.assert_array_equal(grey.pixels, [[5, 6, 9, 7]])

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        bits=st.integers(1, 16),
        is_signed=st.booleans(),
        slope=st.floats(0.01, 100) | st.floats(-100, -0.01),
        is_inverted=st.booleans(),
    )
    def test_range_is_reached_by_the_extreme_stored_values(self, tmp_path, bits, is_signed, slope, is_inverted):
        smallest = -(2 ** (bits - 1)) if is_signed else 0
        pixels = np.array([[smallest, smallest + 2**bits - 1]]).astype(np.int16 if is_signed else np.uint16)
        grey = read(
            tmp_path,
            pixels,
            BitsStored=bits,
            RescaleSlope=f"{slope:.6f}",
            RescaleIntercept=3,
            PhotometricInterpretation="MONOCHROME1" if is_inverted else "MONOCHROME2",
        )
        assert (grey.pixels.min(), grey.pixels.max()) == grey.value_range
        assert (grey.pixels[0, 0] < grey.pixels[0, 1]) == ((slope > 0) != is_inverted)


class TestPadding:
    def test_value(self, tmp_path):
        pixels = np.array([[0, 7, 8, 9, 10]], np.uint16)
        grey = read(tmp_path, pixels, PixelPaddingValue=8, RescaleSlope=2, RescaleIntercept=1)
        np.testing.assert_array_equal(grey.padding, [[False, False, True, False, False]])

    @pytest.mark.parametrize(("value", "limit"), [(7, 9), (9, 7)])
    def test_range_in_either_order(self, tmp_path, value, limit):
        pixels = np.array([[0, 7, 8, 9, 10]], np.uint16)
        grey = read(tmp_path, pixels, PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
        np.testing.assert_array_equal(grey.padding, [[False, True, True, True, False]])

    def test_signed_value_written_unsigned(self, tmp_path):
        ds = dataset_of(np.array([[-2000, -1, 5]], np.int16))
        ds.add_new("PixelPaddingValue", "US", 63536)
        grey = read_dicom(write(ds, tmp_path / "image.dcm"))
        np.testing.assert_array_equal(grey.padding, [[True, False, False]])

    def test_a_value_that_cannot_be_stored_is_that_of_no_pixel(self, tmp_path):
        grey = read(tmp_path, BitsStored=12, PixelPaddingValue=4096)
        assert not grey.padding.any()
        np.testing.assert_array_equal(grey.pixels, PIXELS)

    def test_unsigned_value_written_signed(self, tmp_path):
        ds = dataset_of(np.array([[63536, 65535, 5]], np.uint16))
        ds.add_new("PixelPaddingValue", "SS", -2000)
        grey = read_dicom(write(ds, tmp_path / "image.dcm"))
        np.testing.assert_array_equal(grey.padding, [[True, False, False]])


class TestHeader:
    """Files as old archives and command-line tools leave them: without preamble, or without any header."""

    @pytest.mark.parametrize(
        ("is_implicit", "is_little_endian"), [(True, True), (False, True), (False, False)], ids=str
    )
    def test_no_header(self, tmp_path, is_implicit, is_little_endian):
        data = PIXELS.astype("<u2" if is_little_endian else ">u2").tobytes()
        ds = dataset_of(PIXELS, PixelData=data, Modality="MG", Laterality="L")
        del ds.file_meta
        path = tmp_path / "image.dcm"
        dcmwrite(path, ds, implicit_vr=is_implicit, little_endian=is_little_endian)
        assert path.read_bytes()[:2] in (b"\x08\0", b"\0\x08")
        grey = read_dicom(path)
        np.testing.assert_array_equal(grey.pixels, PIXELS)
        assert grey.laterality is Laterality.LEFT

    @pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.RLELossless])
    def test_no_preamble(self, tmp_path, syntax):
        ds = dataset_of(PIXELS, syntax=syntax if not syntax.is_compressed else uid.ExplicitVRLittleEndian)
        if syntax.is_compressed:
            ds.compress(syntax, generate_instance_uid=False)
        path = write(ds, tmp_path / "image.dcm")
        path.write_bytes(path.read_bytes()[132:])
        np.testing.assert_array_equal(read_dicom(path).pixels, PIXELS)

    def test_compressed_without_header(self, tmp_path):
        ds = dataset_of(PIXELS)
        ds.compress(uid.RLELossless, generate_instance_uid=False)
        path = write(ds, tmp_path / "image.dcm")
        content = path.read_bytes()
        path.write_bytes(content[content.index(b"\x08\0\x16\0") :])
        with pytest.raises(DicomError, match="file without header to be uncompressed; export it again"):
            read_dicom(path)


class TestFacts:
    @pytest.mark.parametrize("keyword", ["ImageLaterality", "Laterality"])
    @pytest.mark.parametrize(
        ("value", "expected"), [("L", Laterality.LEFT), ("R", Laterality.RIGHT), ("B", None), ("", None)]
    )
    def test_laterality(self, tmp_path, keyword, value, expected):
        assert read(tmp_path, **{keyword: value}).laterality is expected

    def test_lateralities_that_disagree(self, tmp_path):
        with pytest.raises(DicomError, match=r"ImageLaterality \(0020,0062\)='L' to agree with Laterality=R"):
            read(tmp_path, ImageLaterality="L", Laterality="R")

    @pytest.mark.parametrize("keyword", ["ViewPosition", "PatientOrientation"])
    def test_view(self, tmp_path, keyword):
        assert read(tmp_path, **{keyword: "MLO"}).view is View.MLO

    @pytest.mark.parametrize(
        ("orientation", "expected"), [(["A", "R"], True), (["P", "L"], False), (["A", "FR"], True), ("MLO", None)]
    )
    def test_chest_wall(self, tmp_path, orientation, expected):
        assert read(tmp_path, PatientOrientation=orientation).chest_wall_left is expected

    def test_other_view(self, tmp_path):
        assert read(tmp_path, PatientOrientation=["A", "R"], ViewPosition="ML").other_view is OtherView.ML
        assert read(tmp_path, PatientOrientation=["A", "R"], ViewPosition="CC").other_view is None
        for name in ("ML", "XCCL"):
            assert read(tmp_path, PatientOrientation=["A", "R"], ViewPosition=name).view is None

    def test_series_description(self, tmp_path):
        assert read(tmp_path, SeriesDescription="cropped images").series_description == "cropped images"


class TestRefused:
    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"NumberOfFrames": 2}, r"NumberOfFrames \(0028,0008\)=.*2.* to be an integer in \[1, 1\]"),
            ({"SamplesPerPixel": 3}, r"SamplesPerPixel \(0028,0002\)=3 to be an integer in \[1, 1\]"),
            ({"PhotometricInterpretation": "RGB"}, r"PhotometricInterpretation \(0028,0004\)='RGB' to be MONOCHROME1"),
            ({"PixelData": None}, r"PixelData \(7FE0,0010\)=missing to hold an image"),
            ({"PixelData": b""}, r"PixelData \(7FE0,0010\)=.* to hold an image"),
            ({"Rows": 0}, r"Rows \(0028,0010\)=0 to be an integer in \[1, 20000\]"),
            ({"Columns": 60_000}, r"Columns \(0028,0011\)=60000 to be an integer in \[1, 20000\]"),
            ({"BitsStored": None}, r"BitsStored \(0028,0101\)=missing to be an integer"),
            ({"BitsAllocated": 32}, r"BitsAllocated \(0028,0100\)=32 to be an integer in \[8, 16\]"),
            ({"BitsAllocated": 12}, r"BitsAllocated \(0028,0100\)=12 to be 8 or 16"),
            ({"BitsStored": 17}, r"BitsStored \(0028,0101\)=17 to be an integer in \[1, 16\]"),
            ({"BitsStored": 12, "HighBit": 15}, r"HighBit \(0028,0102\)=15 to be an integer in \[11, 11\]"),
            ({"PixelRepresentation": 2}, r"PixelRepresentation \(0028,0103\)=2"),
            ({"PresentationLUTShape": "INVERSE"}, r"PresentationLUTShape \(2050,0020\)='INVERSE' to agree with"),
            ({"RescaleSlope": 2}, r"RescaleSlope \(0028,1053\) and RescaleIntercept \(0028,1052\) together"),
            ({"RescaleSlope": 0, "RescaleIntercept": 5}, "not all equal"),
            (
                {"RescaleSlope": "nan", "RescaleIntercept": 5},
                r"RescaleSlope \(0028,1053\)=.*nan.* to be a finite",
            ),
            ({"RescaleSlope": "1e300", "RescaleIntercept": "1e5"}, r"RescaleSlope \(0028,1053\)='1e300', RescaleInt"),
            ({"WindowCenter": 100}, r"WindowCenter \(0028,1050\) and WindowWidth \(0028,1051\) together"),
            ({"WindowCenter": 100, "WindowWidth": 0}, r"WindowWidth \(0028,1051\)=.*0.* >= 1"),
            (
                {"WindowCenter": 100, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"},
                r"WindowWidth \(0028,1051\)=.*0.* > 0",
            ),
            (
                {"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
                r"VOILUTFunction \(0028,1056\)='CUBIC'",
            ),
            ({"VOILUTSequence": [Dataset()]}, r"LUTDescriptor \(0028,3002\)=missing to be in VOILUTSequence"),
            ({"Modality": "CT"}, r"Modality \(0008,0060\)='CT' to be MG, a mammogram"),
            (
                {"PresentationIntentType": "FOR PROCESSING"},
                r"PresentationIntentType \(0008,0068\)=.* to be FOR PRE",
            ),
            ({"Rows": 20_000, "Columns": 5001}, "rows=20000 x columns=5001 <= 100000000 pixels"),
            ({"Laterality": "X"}, r"Laterality \(0020,0060\)='X' to be L, R, B or U"),
            ({"PixelData": PIXELS.tobytes()[:-4]}, r"PixelData \(7FE0,0010\) of 9504 bytes, got 9500: .*cut short"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_attribute(self, tmp_path, attributes, message):
        with pytest.raises(DicomError, match=message) as caught:
            read(tmp_path, **attributes)
        assert str(caught.value).startswith(str(tmp_path / "image.dcm"))
        assert "\n" not in str(caught.value)

    def test_text_in_the_place_of_a_number(self, tmp_path):
        path = write(dataset_of(PIXELS, WindowCenter="1", WindowWidth="1000"), tmp_path / "image.dcm")
        path.write_bytes(path.read_bytes().replace(b"DS\4\x001000", b"DS\4\0wide"))
        with pytest.raises(DicomError, match=r"WindowWidth \(0028,1051\)=b?'wide' to be a finite number"):
            read_dicom(path)

    def test_table_shorter_than_declared(self, tmp_path):
        table = look_up_table(range(10), 0, 8)
        table[0].LUTDescriptor = [20, 0, 8]
        with pytest.raises(DicomError, match=r"LUTData \(0028,3006\)=.* to have 20 entries"):
            read(tmp_path, VOILUTSequence=table)

    @pytest.mark.parametrize("values", [[0.0, math.nan], [0.0, math.inf], [0.0, 1.0]])
    def test_float_pixels(self, tmp_path, values):
        data = np.array([values], "<f4").tobytes()
        with pytest.raises(DicomError, match=r"FloatPixelData \(7FE0,0008\)=.* to be absent"):
            read(tmp_path, PixelData=None, FloatPixelData=data)

    @pytest.mark.parametrize("syntax", [uid.DeflatedExplicitVRLittleEndian, uid.MPEG2MPML, "1.2.3.4"])
    def test_transfer_syntax(self, tmp_path, syntax):
        path = write(dataset_of(PIXELS), tmp_path / "image.dcm")
        content = path.read_bytes()
        old, new = (
            bytes(f"UI{chr(len(text))}\0{text}", "ascii") for text in ("1.2.840.10008.1.2.1\0", _padded(syntax))
        )
        path.write_bytes(content.replace(old, new))
        with pytest.raises(DicomError, match=r"TransferSyntaxUID \(0002,0010\)=.* to be uncompressed, RLE"):
            read_dicom(path)

    def test_no_dicom(self, tmp_path):
        path = tmp_path / "note.dcm"
        path.write_text("not an image" * 100)
        with pytest.raises(DicomError, match=r"note\.dcm: Expected a DICOM image, got a file that does not begin as"):
            read_dicom(path)

    def test_empty_file(self, tmp_path):
        (tmp_path / "image.dcm").touch()
        with pytest.raises(DicomError, match=r"image\.dcm: Expected an image, got an empty file \(0 bytes\); copy or"):
            read_dicom(tmp_path / "image.dcm")

    @pytest.mark.parametrize(
        ("name", "message"),
        [("absent.dcm", "Expected a readable file: No such file"), (".", "Expected a file, got a folder")],
    )
    def test_no_file(self, tmp_path, name, message):
        with pytest.raises(DicomError, match=message):
            read_dicom(tmp_path / name)

    def test_huge_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(image_files, "MAX_FILE_BYTES", 100)
        with pytest.raises(DicomError, match=r"Expected file size=\d+ <= 100 bytes"):
            read(tmp_path)

    def test_nonsense_values_elsewhere_are_no_matter(self, tmp_path):
        grey = read(tmp_path, StudyDate="yesterday", PatientAge="old", SpecificCharacterSet="KLINGON")
        np.testing.assert_array_equal(grey.pixels, PIXELS)


def _padded(syntax):
    return syntax + "\0" * (len(syntax) % 2)


def _hostile_seed(name):
    pixels = PIXELS[:16, :12]
    ds = dataset_of(
        pixels,
        BitsStored=12,
        WindowCenter=[100, 200],
        WindowWidth=[300, 30],
        PixelPaddingValue=0,
        Laterality="L",
        ModalityLUTSequence=look_up_table(range(50), 3, 16),
        syntax=uid.ImplicitVRLittleEndian if name == "implicit" else uid.ExplicitVRLittleEndian,
    )
    if name == "rle":
        ds.compress(uid.RLELossless, generate_instance_uid=False)
    if name == "jpeg-ls":
        ds.compress(uid.JPEGLSLossless, generate_instance_uid=False)
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


SEEDS = {name: _hostile_seed(name) for name in ("explicit", "implicit", "rle", "jpeg-ls")}


def _reads_or_refuses(path):
    try:
        grey, refusal = read_dicom(path), ""
    except DicomError as error:
        grey, refusal = None, str(error)
    assert isinstance(grey, GreyImage) or (refusal.startswith(str(path)) and "\n" not in refusal)
    assert len(refusal) < 800


@pytest.mark.parametrize("name", SEEDS)
def test_file_cut_anywhere(tmp_path, name):
    content = SEEDS[name]
    path = tmp_path / "cut.dcm"
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        _reads_or_refuses(path)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(SEEDS)),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_file_with_flipped_bytes(tmp_path, name, flips):
    content = bytearray(SEEDS[name])
    for position, value in flips:
        content[128 + position % (len(content) - 128)] = value
    path = tmp_path / "flipped.dcm"
    path.write_bytes(content)
    _reads_or_refuses(path)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_jpeg_with_flipped_bytes(tmp_path, flips):
    content = bytearray(write_jpeg_lossless(PIXELS, tmp_path / "jpeg.dcm").read_bytes())
    for position, value in flips:
        content[-1 - position % 8000] = value
    path = tmp_path / "flipped.dcm"
    path.write_bytes(content)
    _reads_or_refuses(path)
