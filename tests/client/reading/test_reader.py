"""Readings: what a lesion is given, that order and names do not matter, and what is refused or abstained from."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydicom import dcmread

from client.data.dataset import load_all_lesions
from client.data.preprocessing import Box
from client.data.tables.manifest import read_manifest
from client.reading.reader import EVENT, Reader, read_lesion
from client.reading.request import LesionRequest, Picture
from client.reading.result import Band, Outcome, Reason, read_result, to_result, write_result
from shared_model.network.scoring import predict
from shared_model.system import audit_log
from shared_model.vocabulary import View
from tests.client.conftest import CANARY, write_dicom
from tests.hospital_kits import kit_in
from tests.reader_room import write_film, write_test_release
from tests.releases import mass, negative, release_in


def codes(reading):
    return {each.code for each in reading.why}


def without_id(reading):
    return dataclasses.replace(reading, reading_id="0" * 32)


class TestAReading:
    def test_is_what_the_same_rows_of_a_table_are_scored(self, reader, calibrated, views, tmp_path):
        """The second way: manifest, cache, mean over the views and scoring as in training."""
        row = {
            "patient_id": "a", "finding_id": 1, "split": "test", "label": 1, "breast_density": 2,
            "laterality": "LEFT", "abnormality_type": "mass",
        }  # fmt: skip
        rows = [row | {"image_path": "cc.png", "view": "CC"}, row | {"image_path": "mlo.png", "view": "MLO"}]
        pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
        config = calibrated.config
        data = dataclasses.replace(config.data, root=str(tmp_path / "table.csv"), cache_dir=str(tmp_path / "cache"))
        table = read_manifest(tmp_path / "table.csv", image_mode=config.data.image.mode)
        lesions, _ = load_all_lesions(table, dataclasses.replace(config, data=data))
        reading = reader.read(views.request())
        assert reading.outcome is Outcome.READ, reading.why
        assert reading.answer.probability == pytest.approx(predict(calibrated.network, lesions)[0], abs=1e-6)

    def test_has_all_that_an_answer_needs(self, reader, calibrated, views):
        reading = reader.read(views.request())
        answer = reading.answer
        assert answer.probability > 0.5
        assert answer.is_above_threshold
        assert answer.band is Band.HIGH
        assert answer.interval.low < answer.probability < answer.interval.high
        assert answer.conformal_label == "malignant"
        assert 0 < answer.novelty_distance <= 1
        parts = answer.contributions
        logit = np.log(answer.probability / (1 - answer.probability))
        assert parts.base + parts.image + parts.columns == pytest.approx(logit, abs=1e-4)
        assert {each.name: each.value for each in parts.by_column}["view"] == "CC, MLO"
        assert [each.view for each in reading.views] == [View.CC, View.MLO]
        assert reading.release.digest == calibrated.digest
        assert reading.release.is_signed
        assert any("No site was named" in text for text in reading.when_not_to_trust)
        assert "No medical device." in reading.when_not_to_trust

    def test_does_not_depend_on_order_names_or_tags(self, reader, tmp_path):
        pictures = [mass(tmp_path / f"{n}.png", 1001 + 2 * n, is_malignant=True) for n in range(2)]
        grey = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in pictures]
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        for number, pixels in enumerate(grey):
            write_dicom(tmp_path / "a" / f"{number}.dcm", pixels)
            write_dicom(tmp_path / "b" / f"{1 - number}-renamed", pixels)
        found = []
        for order in (1, -1):
            for names in (("a/0.dcm", "a/1.dcm"), ("b/1-renamed", "b/0-renamed"), ("0.png", "1.png")):
                asked = [Picture(path=tmp_path / name, view=view) for name, view in zip(names, View, strict=True)][
                    ::order
                ]
                found.append(reader.read(LesionRequest(pictures=tuple(asked), columns={"laterality": "LEFT"})))
        assert {each.outcome for each in found} == {Outcome.READ}
        assert len({each.answer for each in found}) == 1

    def test_by_the_function_is_that_of_the_reader(self, reader, calibrated, views):
        assert without_id(read_lesion(calibrated.folder, views.request())) == without_id(reader.read(views.request()))

    def test_goes_through_json(self, reader, views, tmp_path):
        reading = reader.read(views.request())
        write_result(reading, tmp_path / "result.json")
        assert read_result(tmp_path / "result.json") == reading
        assert json.loads(to_result(reading))["schema_version"] == 3

    def test_shows_where_it_looked(self, reader, views):
        reading, maps = reader.read_with_maps(views.request())
        assert reading.outcome is Outcome.READ
        assert [each.view for each in maps] == [View.CC, View.MLO]
        assert all(each.saliency.shape == each.picture.shape == (64, 64) for each in maps)
        assert all(each.saliency.max() == pytest.approx(1) for each in maps)


class TestDoubts:
    def test_one_view_of_two_is_read_and_marked(self, reader, views):
        reading = reader.read(LesionRequest(pictures=(Picture(path=views.cc, view=View.CC),)))
        assert any("One view of two" in text for text in reading.when_not_to_trust)
        assert any("breast_density" in text for text in reading.when_not_to_trust)

    def test_pure_white_tissue_is_read_and_marked(self, views, tmp_path):
        reader = Reader.open(release_in(tmp_path / "bare").folder)
        grey = cv2.imread(str(views.cc), cv2.IMREAD_GRAYSCALE)
        assert not any("pure white" in text for text in reader.read(views.request()).when_not_to_trust)
        cv2.imwrite(str(tmp_path / "burnt.png"), np.clip(grey.astype(float) * 1.5, 0, 255).astype(np.uint8))
        reading = reader.read(dataclasses.replace(views, cc=tmp_path / "burnt.png").request())
        assert reading.outcome is Outcome.READ, reading.why
        assert any("pure white" in text for text in reading.when_not_to_trust)

    def test_a_picture_unlike_the_public_ones_is_abstained_from(self, reader, tmp_path):
        generator, paths = np.random.default_rng(0), []
        middle = 80 * (np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) < 0.5)
        for number in range(2):
            stripes = middle + 90 + 60 * ((np.arange(64) // 4 + number) % 2)[None, :]
            paths.append(tmp_path / f"{number}.png")
            cv2.imwrite(str(paths[-1]), np.clip(stripes + generator.normal(size=(64, 64)), 0, 255).astype(np.uint8))
        pictures = tuple(Picture(path=path, view=view) for path, view in zip(paths, View, strict=True))
        reading = reader.read(LesionRequest(pictures=pictures))
        assert reading.outcome is Outcome.ABSTAINED
        assert codes(reading) == {Reason.NOVELTY}
        assert reading.answer is None
        assert "unlike" in reading.why[0].text

    def test_a_score_between_the_classes_is_abstained_from(self, calibrated, views):
        reader = Reader.open(calibrated.folder)
        with torch.no_grad():
            for parameter in reader.release.network.parameters():
                parameter.zero_()
        reading = reader.read(views.request())
        assert reading.outcome is Outcome.ABSTAINED
        assert codes(reading) == {Reason.UNDECIDED}

    def test_without_public_lesions_the_reading_says_so(self, tmp_path, views):
        made = release_in(tmp_path / "bare")
        reading = read_lesion(made.folder, views.request())
        assert reading.outcome is Outcome.READ
        assert reading.answer.conformal_label is reading.answer.novelty_distance is None
        assert any("novelty and abstention were not calibrated" in text for text in reading.when_not_to_trust)


class TestRefuses:
    @pytest.mark.parametrize("which", ["cc", "mlo", "both"])
    def test_a_negative(self, reader, views, tmp_path, which):
        for name in ("cc", "mlo") if which == "both" else (which,):
            views = dataclasses.replace(views, **{name: negative(getattr(views, name), tmp_path / f"n-{name}.png")})
        reading = reader.read(views.request())
        assert reading.outcome is not Outcome.READ
        assert codes(reading) == {Reason.NEGATIVE}
        assert reading.answer is None

    def test_a_negative_without_public_lesions(self, tmp_path, views):
        made = release_in(tmp_path / "bare")
        cc, mlo = negative(views.cc, tmp_path / "n.png"), negative(views.mlo, tmp_path / "m.png")
        views = dataclasses.replace(views, cc=cc, mlo=mlo)
        assert codes(read_lesion(made.folder, views.request())) == {Reason.NEGATIVE}

    def test_a_negative_film_is_called_one_whatever_else_does_not_fit(self, tmp_path):
        """To the other gates the air beside the breast is the breast, and they tell of a box that is well placed."""
        write_test_release(tmp_path / "release")
        path = tmp_path / "film.dcm"
        x, y, width, height = write_film(path)
        film = dcmread(path)
        film.PixelData = (4095 - film.pixel_array).tobytes()
        film.save_as(path)
        box = Box(x=x, y=y, width=width, height=height)
        request = LesionRequest(pictures=(Picture(path=path, view=View.CC, box=box),))
        reading = read_lesion(tmp_path / "release", request, accept_unsigned=True)
        assert [each.code for each in reading.why] == [Reason.NEGATIVE, Reason.BOX]

    @pytest.mark.parametrize(
        ("columns", "code"),
        [
            ({"assessment": "4"}, Reason.COLUMNS),
            ({"breast_density": "7"}, Reason.COLUMNS),
            ({"abnormality_type": "calcification"}, Reason.COLUMNS),
            ({"breast_density": "2" * 500}, Reason.COLUMNS),
            ({CANARY: "1"}, Reason.COLUMNS),
        ],
    )
    def test_columns_outside_the_contract(self, reader, views, columns, code):
        reading = reader.read(views.request(**columns))
        assert (reading.outcome, codes(reading)) == (Outcome.REFUSED, {code})

    def test_a_box_where_crops_are_read(self, reader, views):
        reading = reader.read(views.request(box=Box(x=1, y=1, width=9, height=9)))
        assert (reading.outcome, codes(reading)) == (Outcome.REFUSED, {Reason.MODE})
        assert "data.image.mode=roi" in reading.why[0].text

    def test_a_film_where_crops_are_read(self, reader, views, tmp_path):
        views = dataclasses.replace(views, cc=mass(tmp_path / "film.png", 5, size=1700))
        assert codes(reader.read(views.request())) == {Reason.MODE}

    def test_the_same_picture_twice(self, reader, views, tmp_path):
        shutil.copy(views.cc, tmp_path / "copy.png")
        views = dataclasses.replace(views, mlo=tmp_path / "copy.png")
        assert codes(reader.read(views.request())) == {Reason.VIEWS}

    def test_no_picture_and_three(self, reader, views):
        for count in (0, 3):
            pictures = tuple(Picture(path=views.cc) for _ in range(count))
            assert codes(reader.read(LesionRequest(pictures=pictures))) == {Reason.VIEWS}

    @pytest.mark.parametrize("content", [b"", b"no picture", bytes(200)])
    def test_what_is_no_picture_or_is_not_there(self, reader, views, tmp_path, content):
        (tmp_path / "broken.dcm").write_bytes(content)
        for name in ("broken.dcm", "missing.dcm"):
            reading = reader.read(dataclasses.replace(views, cc=tmp_path / name).request())
            assert (reading.outcome, codes(reading)) == (Outcome.REFUSED, {Reason.FILE})
            assert "\n" not in reading.why[0].text
            assert str(tmp_path) not in reading.why[0].text

    def test_a_dark_picture(self, reader, views, tmp_path):
        cv2.imwrite(str(tmp_path / "dark.png"), cv2.imread(str(views.cc), cv2.IMREAD_GRAYSCALE) // 32)
        assert codes(reader.read(dataclasses.replace(views, cc=tmp_path / "dark.png").request())) == {Reason.RANGE}


class TestAtASite:
    @pytest.fixture
    def kit(self, tmp_path, calibrated):
        kit = kit_in(tmp_path / "site")
        (kit.folder / "approved_releases.txt").write_text(f"{calibrated.digest}  # by the board\n")
        (kit.folder / "ca.pem").write_bytes(calibrated.authority)
        return kit

    def test_every_reading_is_a_line_without_patient_data(self, kit, calibrated, tmp_path):
        folder = tmp_path / CANARY
        folder.mkdir()
        cc, mlo = (mass(folder / f"{CANARY}-{n}.png", 1001 + 2 * n, is_malignant=True) for n in range(2))
        pictures = (Picture(path=cc, view=View.CC), Picture(path=mlo, view=View.MLO))
        reader = Reader.open(calibrated.folder, site=kit.site)
        good = reader.read(LesionRequest(pictures=pictures, columns={"breast_density": "3"}))
        bad = reader.read(LesionRequest(pictures=pictures, columns={"patient": CANARY}))
        lines = [line for line in audit_log.read(kit.site.audit_log) if line.event == EVENT]
        assert [line.facts["reading"] for line in lines] == [good.reading_id, bad.reading_id]
        assert [line.facts["outcome"] for line in lines] == ["read", "refused"]
        assert lines[1].facts["why"] == "columns"
        text = kit.site.audit_log.read_text()
        assert CANARY not in text
        assert not any(each.sha256 in text for each in good.views)
        assert f"{good.answer.probability:.4f}"[2:] not in text
        assert set(lines[0].facts) == {"reading", "release", "outcome", "why", "code"}
        assert good.release.is_approved
        assert good.release.is_signer_known

    def test_there_is_no_reading_without_a_line(self, kit, calibrated, views):
        reader = Reader.open(calibrated.folder, site=kit.site)
        kit.site.audit_log.mkdir(parents=True)
        with pytest.raises(OSError, match="audit"):
            reader.read(views.request())
