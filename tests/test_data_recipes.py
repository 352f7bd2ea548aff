"""The recipes of docs/data: run on a tiny table in the layout of each data set, then read as a site reads it."""

import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from client.data.tables.image_counts import ImageCount
from client.data.tables.manifest import read_manifest
from shared_model.config.choices import ImageMode

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^```python\n# (.+?)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
CRANIOCAUDAL = "cranio-caudal"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name, *, mode):
    """Run a recipe and return the table that a site reads, none of whose rows and cells may be lost."""
    exec(compile(RECIPES[name], name, "exec"), {})  # noqa: S102, our own documentation
    table = read_manifest(Path("manifest.csv"), image_mode=mode)
    assert len(table.rejects) == len(table.excluded) == 0, list(table.rejects["reason"])
    count = ImageCount.of(table, mode)
    assert count.num_with == count.num_lesions > 0
    return table


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"DICM")
    return path


def test_every_recipe_of_the_page_is_tried():
    assert set(RECIPES) == {"VinDr-Mammo", "INbreast", "CMMD", "CBIS-DDSM from Kaggle", "A hospital's own table"}


def test_vindr(folder):
    header = (
        "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,"
        "finding_categories,finding_birads,xmin,ymin,xmax,ymax,split"
    )
    rows = [
        "s1,e1,i1,R,MLO,3518,2800,BI-RADS 4,DENSITY C,['Mass'],BI-RADS 4,2355.4,1731.6,2482.98,1852.1,training",
        "s1,e1,i2,R,CC,3518,2800,BI-RADS 4,DENSITY C,\"['Mass', 'Skin Thickening']\",BI-RADS 3,-2,5,20,30,training",
        "s2,e2,i3,L,CC,3518,2800,BI-RADS 5,DENSITY A,['Suspicious Calcification'],BI-RADS 5,1,2,30,40,test",
        "s3,e3,i4,L,CC,3518,2800,BI-RADS 1,DENSITY B,['No Finding'],,,,,,training",
        "s4,e4,i5,L,CC,3518,2800,BI-RADS 4,DENSITY B,['Nipple Retraction'],BI-RADS 4,1,2,30,40,training",
    ]
    (folder / "finding_annotations.csv").write_text("\n".join([header, *rows]))
    for study, image in (("s1", "i1"), ("s1", "i2"), ("s2", "i3")):
        write(folder / "images" / study / f"{image}.dicom")
    table = run("VinDr-Mammo", mode=ImageMode.ROI)
    assert len(table.unreadable) == 0
    columns = ["patient_id", "label", "split", "laterality", "view", "abnormality_type", "breast_density"]
    assert table.frame[columns].to_numpy().tolist() == [
        ["s1", 1, "train", "RIGHT", "MLO", "mass", "3"],
        ["s1", 0, "train", "RIGHT", "CC", "mass", "3"],
        ["s2", 1, "test", "LEFT", "CC", "calcification", "1"],
    ]
    assert table.frame["film_path"][0] == "images/s1/i1.dicom"
    assert table.frame[["roi_x", "roi_y", "roi_w", "roi_h"]].to_numpy().tolist()[:2] == [
        [2355, 1732, 128, 120],
        [0, 5, 22, 25],
    ]


def test_inbreast(folder):
    (folder / "INbreast.csv").write_text(
        "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads;Mass ;Micros\n"
        "removed;removed;R;CC;201001;22678622;4;5;X ;\n"
        "removed;removed;L;MLO;201001;22678646;2;4a; ;X\n"
        "removed;removed;L;CC;201001;22678694;1;1; ;\n"
        "removed;removed;L;CC;201001;99999999;1;1; ;\n"
    )
    for name in ("22678622_61b13c_MG_R_CC_ANON", "22678646_61b13c_MG_L_ML_ANON", "22678694_aa0001_MG_L_CC_ANON"):
        write(folder / "AllDICOMs" / f"{name}.dcm")
    table = run("INbreast", mode=ImageMode.FILM)
    assert len(table.unreadable) == 0
    columns = ["patient_id", "label", "laterality", "view", "breast_density", "film_path"]
    assert table.frame[columns].to_numpy().tolist() == [
        ["61b13c", 1, "RIGHT", "CC", "4", "AllDICOMs/22678622_61b13c_MG_R_CC_ANON.dcm"],
        ["61b13c", 1, "LEFT", "MLO", "2", "AllDICOMs/22678646_61b13c_MG_L_ML_ANON.dcm"],
        ["aa0001", 0, "LEFT", "CC", "1", "AllDICOMs/22678694_aa0001_MG_L_CC_ANON.dcm"],
    ]
    assert table.frame.groupby("patient_id")["split"].nunique().tolist() == [1, 1]


def header_only(path, patient, side, meaning):
    view = Dataset()
    view.CodeMeaning = meaning
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalMammographyXRayImageStorageForPresentation, "1.2.3"
    dataset.PatientID, dataset.ImageLaterality, dataset.ViewCodeSequence = patient, side, [view]
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def test_cmmd(folder):
    (folder / "CMMD_clinicaldata_revision.csv").write_text(
        "ID1,LeftRight,Age,number,abnormality,classification,subtype\n"
        "D1-0001,R,44,2,calcification,Benign,\n"
        "D1-0002,L,40,2,both,Malignant,Luminal A\n"
    )
    study = "manifest-1616439774456/CMMD/{}/07-18-2010-NA-NA-79377/1.000000-NA-70244"
    header_only(folder / study.format("D1-0001") / "1-1.dcm", "D1-0001", "R", CRANIOCAUDAL)
    header_only(folder / study.format("D1-0001") / "1-2.dcm", "D1-0001", "R", "medio-lateral oblique")
    header_only(folder / study.format("D1-0002") / "1-1.dcm", "D1-0002", "L", CRANIOCAUDAL)
    header_only(folder / study.format("D1-0002") / "1-2.dcm", "D1-0002", "R", CRANIOCAUDAL)
    table = run("CMMD", mode=ImageMode.FILM)
    columns = ["patient_id", "label", "laterality", "view", "abnormality_type", "age"]
    assert table.frame[columns].fillna("").to_numpy().tolist() == [
        ["D1-0001", 0, "RIGHT", "CC", "calcification", "44"],
        ["D1-0001", 0, "RIGHT", "MLO", "calcification", "44"],
        ["D1-0002", 1, "LEFT", "CC", "", "40"],
    ]
    assert [reason.endswith("to be one of mass, calcification.") for reason in table.unreadable["reason"]] == [True]


def test_kaggle(folder):
    for name in ("1.1", "1.2"):
        path = folder / "jpeg" / name / "1-001.jpg"
        path.parent.mkdir(parents=True)
        assert cv2.imwrite(str(path), np.arange(256, dtype=np.uint8).reshape(16, 16))
    (folder / "csv").mkdir()
    pd.DataFrame(
        {
            "file_path": ["CBIS-DDSM/dicom/1.1/1-1.dcm", "CBIS-DDSM/dicom/1.2/1-1.dcm", "CBIS-DDSM/dicom/1.1/2-1.dcm"],
            "image_path": [f"CBIS-DDSM/jpeg/{name}.jpg" for name in ("1.1/1-001", "1.2/1-001", "1.1/2-002")],
            "SeriesDescription": ["cropped images", "cropped images", "ROI mask images"],
            "SeriesInstanceUID": ["1.1", "1.2", "1.1"],
        }
    ).to_csv(folder / "csv" / "dicom_info.csv", index=False)
    for split, patient, series, pathology in (
        ("train", "P_00001", "1.1", "MALIGNANT"),
        ("test", "P_00002", "1.2", "BENIGN_WITHOUT_CALLBACK"),
    ):
        pd.DataFrame(
            [
                {
                    "patient_id": patient,
                    "breast_density": 3,
                    "left or right breast": "LEFT",
                    "image view": "CC",
                    "abnormality type": "mass",
                    "mass shape": "OVAL",
                    "mass margins": "OBSCURED",
                    "pathology": pathology,
                    "cropped image file path": f"Mass-X_{patient}_LEFT_CC_1/9.9/{series}/000000.dcm\n",
                }
            ]
        ).to_csv(folder / "csv" / f"mass_case_description_{split}_set.csv", index=False)
    table = run("CBIS-DDSM from Kaggle", mode=ImageMode.CROP)
    columns = ["patient_id", "label", "split", "view", "mass_margins", "lesion_paths"]
    assert table.frame[columns].to_numpy().tolist() == [
        ["P_00001", 1, "train", "CC", "OBSCURED", ("jpeg/1.1/1-001.jpg",)],
        ["P_00002", 0, "test", "CC", "OBSCURED", ("jpeg/1.2/1-001.jpg",)],
    ]


def test_a_hospital(folder):
    (folder / "export.csv").write_text(
        "Patient;Histology;Lesion;File;Side;View;Age\n"
        "0012;Invasive ductal carcinoma;1;img/a.dcm;L;CC;90+\n"
        "0012;Invasive ductal carcinoma;1;img/b.dcm;L;MLO;90+\n"
        "0013;Fibroadenoma;1;img/c.dcm;R;CC;44\n"
    )
    for name in "abc":
        write(folder / "img" / f"{name}.dcm")
    table = run("A hospital's own table", mode=ImageMode.FILM)
    columns = ["patient_id", "label", "laterality", "view", "age"]
    assert table.frame[columns].to_numpy().tolist() == [
        ["0012", 1, "LEFT", "CC", "90"], ["0012", 1, "LEFT", "MLO", "90"], ["0013", 0, "RIGHT", "CC", "44"],
    ]  # fmt: skip
    assert table.frame["finding_id"].nunique() == 2
