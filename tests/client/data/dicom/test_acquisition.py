"""What a file says of its picture: mammogram or not, which view, drawn which way."""

import pytest
from pydicom import DataElement, Dataset, uid
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag

from client.data.dicom.acquisition import chest_wall_left, laterality, other_view, require_mammogram, view
from client.data.preprocessing import OtherView
from shared_model.errors import DicomError
from shared_model.vocabulary import View


def dataset_of(**attributes):
    """Return a data set with values that no program should have written, too."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        tag = Tag(keyword)
        if isinstance(value, list) and value and isinstance(value[0], Dataset):
            setattr(dataset, keyword, value)
        else:
            dataset.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE))
    return dataset


def coded(value):
    item = Dataset()
    item.CodeValue = value
    return [item]


class TestMammogram:
    @pytest.mark.parametrize(
        "attributes",
        [
            {},
            {"Modality": "MG"},
            {"Modality": "MG", "SOPClassUID": uid.SecondaryCaptureImageStorage},
            {"Modality": "", "SOPClassUID": uid.SecondaryCaptureImageStorage},
            {"Modality": "MG", "SOPClassUID": uid.DigitalMammographyXRayImageStorageForPresentation},
            {"Modality": "MG", "PresentationIntentType": "FOR PRESENTATION"},
            {"Modality": "MG", "SOPClassUID": "1.2.840.99999.1"},
        ],
        ids=str,
    )
    def test_accepted(self, attributes):
        require_mammogram(dataset_of(**attributes))

    @pytest.mark.parametrize("modality", ["CT", "US", "MR", "CR", "DX", "OT"])
    def test_other_modality(self, modality):
        with pytest.raises(DicomError, match=rf"Expected Modality \(0008,0060\)='{modality}' to be MG"):
            require_mammogram(dataset_of(Modality=modality))

    @pytest.mark.parametrize("modality", [{}, {"Modality": ""}, {"Modality": "MG"}])
    @pytest.mark.parametrize(
        "sop_class", [uid.CTImageStorage, uid.UltrasoundImageStorage, uid.MRImageStorage, uid.EncapsulatedPDFStorage]
    )
    def test_class_of_another_kind_of_image(self, modality, sop_class):
        with pytest.raises(DicomError, match=r"Expected SOPClassUID \(0008,0016\)=.* to be that of a mammogram, not"):
            require_mammogram(dataset_of(SOPClassUID=sop_class, **modality))

    @pytest.mark.parametrize(
        ("attributes", "keyword"),
        [
            ({"PresentationIntentType": "FOR PROCESSING"}, "PresentationIntentType"),
            ({"PresentationIntentType": "for processing"}, "PresentationIntentType"),
            ({"PresentationIntentType": "FOR_PROCESSING "}, "PresentationIntentType"),
            ({"SOPClassUID": uid.DigitalMammographyXRayImageStorageForProcessing}, "SOPClassUID"),
        ],
    )
    def test_raw_values_of_the_detector(self, attributes, keyword):
        with pytest.raises(DicomError, match=rf"Expected {keyword} .* to be FOR PRESENTATION: .*export the processed"):
            require_mammogram(dataset_of(Modality="MG", **attributes))


class TestView:
    @pytest.mark.parametrize(
        ("attributes", "expected"),
        [
            ({}, None),
            ({"ViewPosition": "CC"}, View.CC),
            ({"ViewPosition": "XCCL"}, None),
            ({"ViewCodeSequence": coded("R-10226")}, View.MLO),
            ({"ViewCodeSequence": coded("399162004")}, View.CC),
            ({"ViewCodeSequence": coded("R-10224")}, OtherView.ML),
            ({"ViewCodeSequence": coded("399099002")}, OtherView.LMO),
            ({"ViewPosition": "mlo "}, View.MLO),
            ({"ViewPosition": "FB"}, OtherView.FB),
            ({"ViewPosition": "MLO", "ViewCodeSequence": coded("399368009")}, View.MLO),
            ({"ViewPosition": "CC", "PatientOrientation": ["A", "R"]}, View.CC),
            ({"PatientOrientation": "MLO"}, View.MLO),
        ],
        ids=str,
    )
    def test_named(self, attributes, expected):
        dataset = dataset_of(**attributes)
        assert (view(dataset) or other_view(dataset)) is expected
        assert other_view(dataset) is (expected if isinstance(expected, OtherView) else None)

    @pytest.mark.parametrize("other", [{"PatientOrientation": "CC"}, {"ViewCodeSequence": coded("R-10242")}], ids=str)
    def test_contradiction(self, other):
        with pytest.raises(DicomError, match=r"Expected ViewPosition \(0018,5101\)='MLO' to agree with"):
            view(dataset_of(ViewPosition="MLO", **other))


class TestChestWall:
    @pytest.mark.parametrize(
        ("orientation", "expected"),
        [
            (["A", "R"], True),
            (["A", "FR"], True),
            (["P", "L"], False),
            (["P", "FL"], False),
            (["p", "l"], False),
            (["L", "F"], None),
            (["", ""], None),
            ("CC", None),
            ("A", None),
            (None, None),
        ],
    )
    def test_is_where_the_rows_begin(self, orientation, expected):
        assert chest_wall_left(dataset_of(PatientOrientation=orientation)) is expected

    @pytest.mark.parametrize("orientation", [["F", "A"], ["H", "P"], ["L", "P"]])
    def test_a_picture_on_its_side(self, orientation):
        with pytest.raises(DicomError, match=r"PatientOrientation \(0020,0020\)=.* lies on its side; turn it"):
            chest_wall_left(dataset_of(PatientOrientation=orientation))

    def test_absent(self):
        assert chest_wall_left(dataset_of()) is None
        assert laterality(dataset_of()) is None
