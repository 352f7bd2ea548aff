"""From a run to a release to a reading by the commands alone; and that a release tells nothing of a patient."""

import csv
import dataclasses
import json
from pathlib import Path

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load_file

from client.reading.release import open_release
from client.reading.result import Outcome, read_result
from server.deployment.provision import provision
from server.release import onnx_extra
from server.release.assembly import Choices, RunToRelease, assemble
from shared_model.config.choices import ConstantsFrom, FeatureEngine
from shared_model.network.backbone import frozen_features
from shared_model.release.signature import digest_of
from shared_model.vocabulary import clinical_width
from simulations.commands.app import main
from simulations.evaluation.finished_model import FinishedModel
from tests.releases import mass, negative, release_in


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return provision(
        out=tmp_path_factory.mktemp("kits") / "k", sites=["a"], hosts=["localhost"], port=1, valid_days=9,
        approved_bundles=[],
    )  # fmt: skip


@pytest.fixture(scope="module")
def released(smoke, kits, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "release"
    assert main(["server", "release", str(smoke.first), "--out", str(out), "--kit", str(kits.server)]) == 0
    return out


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    return release_in(tmp_path_factory.mktemp("calibrated"), with_public=True)


class TestRelease:
    def test_has_the_files_of_a_release(self, released):
        assert {path.name for path in released.iterdir()} == {
            "release.json", "model.safetensors", "model_card.md", "release.sig", "certificate.pem",
        }  # fmt: skip
        assert json.loads((released / "release.json").read_text())["is_signed"] is True

    def test_tells_nothing_of_a_patient(self, smoke, released):
        """No identifier, no path, no score of a site's lesion, and no count: every text and number is looked at."""
        content = b"".join(path.read_bytes() for path in sorted(released.iterdir()))
        rosters = [path for path in smoke.root.glob("*.csv") if path.name == "sites.csv"]
        with rosters[0].open(newline="") as file:
            patients = [row["patient_id"] for row in csv.DictReader(file)]
        assert len(patients) == 80
        for needle in (*patients, str(smoke.root), str(smoke.cache), str(smoke.first.parent), "P_0"):
            assert needle.encode() not in content, needle
        with (smoke.first / "predictions.csv").open(newline="") as file:
            scores = [row["score"] for row in csv.DictReader(file)]
        assert not any(score.encode() in content for score in scores)
        results = json.loads((smoke.first / "results.json").read_text())
        counts = {site["num_patients_declared"] for site in results["sites"]} | {results["final"]["num_lesions"]}
        integers = set(_integers(json.loads((released / "release.json").read_text())))
        # Formats and geometry; none of them comes from a table.
        assert integers <= {1, 3, 64, 4, 0}
        assert counts.isdisjoint(integers - {1, 3, 64, 4, 0})
        assert set(load_file(released / "model.safetensors")) == set(load_file(smoke.first / "model.safetensors"))

    def test_tells_no_path_of_the_coordinators_constants(self, smoke):
        run = FinishedModel.open(smoke.first)
        model = dataclasses.replace(
            run.config.model, feature_constants=ConstantsFrom.SHIPPED, image_components=4,
            constants_file="/home/someone/constants.safetensors",
        )  # fmt: skip
        config = dataclasses.replace(run.config, model=model)
        finished = RunToRelease(folder=smoke.first, config=config, results=run.results, network=run.network)
        choices = Choices(name="x", is_signed=False, level=0.9, is_holdout_public=False, has_onnx=False)
        document, files = assemble(finished, choices, None)
        assert b"someone" not in b"".join((document, *files.values()))

    def test_figures_are_told_only_of_public_test_lesions(self, smoke, tmp_path, released):
        assert json.loads((released / "release.json").read_text())["figures"] is None
        out = tmp_path / "release"
        assert main(["server", "release", str(smoke.first), "--out", str(out), "--unsigned", "--public-holdout"]) == 0
        told = json.loads((out / "release.json").read_text())
        assert told["figures"]["num_lesions"] > 0
        assert told["is_signed"] is False
        assert "not signed" in (out / "model_card.md").read_text()

    def test_with_onnx_the_network_is_there_for_other_programs(self, smoke, kits, tmp_path):
        out, flags = tmp_path / "release", ["--kit", str(kits.server), "--onnx"]
        assert main(["server", "release", str(smoke.first), "--out", str(out), *flags]) == 0
        content, told = (out / "model.onnx").read_bytes(), json.loads((out / "release.json").read_text())
        assert told["files"]["model.onnx"] == digest_of(content)
        metadata = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
        assert metadata["model_sha256"] == told["files"]["model.safetensors"]
        assert "no check of the picture" in (out / "model_card.md").read_text()
        release = open_release(out, site=None, accept_unsigned=False)
        images = FinishedModel.open(smoke.first).config.data.image
        pixels = torch.rand(1, 1, images.size, images.size, generator=torch.Generator().manual_seed(0))
        clinical = torch.zeros(1, clinical_width(release.document.contract.features))
        (probability,) = ReferenceEvaluator(onnx.load_from_string(content)).run(
            ["probability"], {"images": pixels.numpy(), "clinical": clinical.numpy()}
        )
        features = frozen_features(pixels, release.document.contract.model.backbone, FeatureEngine.TORCH)
        with torch.inference_mode():
            logit = release.network(features, torch.tensor([True]), clinical)
        assert abs(float(probability[0]) - float(torch.sigmoid(logit[0]))) <= 1e-5

    def test_onnx_without_the_extra_makes_nothing(self, smoke, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(onnx_extra, "find_spec", lambda name: None)
        out = tmp_path / "release"
        assert main(["server", "release", str(smoke.first), "--out", str(out), "--unsigned", "--onnx"]) == 1
        assert "federated-mammography[onnx]" in capsys.readouterr().err
        assert not out.exists()

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ([], "either --kit FOLDER"),
            (["--unsigned", "--kit", "x"], "either --kit FOLDER"),
            (["--unsigned", "--public-root", "x", "--public-manifest", "y"], "not both"),
            (["--unsigned", "--level", "0.3"], r"[0.5, 1)"),
        ],
    )
    def test_wrong_usage_is_told(self, smoke, tmp_path, capsys, flags, message):
        assert main(["server", "release", str(smoke.first), "--out", str(tmp_path / "r"), *flags]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "r").exists()

    def test_a_folder_in_use_is_left_alone(self, smoke, tmp_path, capsys):
        (tmp_path / "mine").write_text("x")
        assert main(["server", "release", str(smoke.first), "--out", str(tmp_path), "--unsigned"]) == 1
        assert "new or empty folder" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def _integers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for entry in value for number in _integers(entry)]
    return [value] if type(value) is int else []


class TestRead:
    @pytest.fixture
    def flags(self, calibrated, tmp_path):
        pictures = [mass(tmp_path / f"{number}.png", 1001 + 2 * number, is_malignant=True) for number in range(2)]
        return ["read", "--release", str(calibrated.folder), "--cc", str(pictures[0]), "--mlo", str(pictures[1])]

    def test_a_lesion_is_read(self, flags, tmp_path, capsys):
        out, picture = tmp_path / "result.json", tmp_path / "maps.png"
        more = ["--columns", "laterality=LEFT,breast_density=2", "--out", str(out), "--picture", str(picture)]
        assert main([*flags, *more]) == 0
        assert read_result(out).outcome is Outcome.READ
        assert picture.read_bytes().startswith(b"\x89PNG")
        printed = capsys.readouterr().out
        for text in ("probability of malignancy", "call malignant", "When not to trust this", "no audit log"):
            assert text in printed

    def test_a_negative_is_refused_with_its_own_status(self, flags, tmp_path, capsys):
        for position in (4, 6):
            path = tmp_path / f"negative{position}.png"
            negative(flags[position], path)
            flags[position] = str(path)
        assert main([*flags, "--out", str(tmp_path / "result.json")]) == 3
        assert read_result(tmp_path / "result.json").outcome is Outcome.REFUSED
        assert "negative" in capsys.readouterr().out

    def test_nothing_of_an_older_reading_stays(self, flags, tmp_path):
        out, picture = tmp_path / "result.json", tmp_path / "maps.png"
        outputs = ["--out", str(out), "--picture", str(picture)]
        for path in (out, picture):
            path.write_text("of another lesion")
        assert main([*flags, "--columns", "breast_density=9", *outputs]) == 3
        assert read_result(out).outcome is Outcome.REFUSED
        assert not picture.exists()
        flags[2] = str(tmp_path / "none")
        picture.write_text("of another lesion")
        assert main([*flags, *outputs]) == 1
        assert not out.exists()
        assert not picture.exists()

    def test_wrong_usage_gives_no_result(self, flags, tmp_path, capsys):
        out = ["--out", str(tmp_path / "result.json")]
        for more in (["--box-cc", "1,2,3"], ["--box-cc", "1,2,0,4"], ["--box-cc", "a,b,c,d"]):
            assert main([*flags, *more, *out]) == 2
            assert "x,y,width,height" in capsys.readouterr().err
        assert main([*flags[:3], *out]) == 2
        assert main([*flags[:5], "--box-mlo", "1,2,3,4", *out]) == 2
        assert not (tmp_path / "result.json").exists()

    @pytest.mark.parametrize("flag", ["--out", "--picture"])
    def test_no_film_is_written_over(self, flags, capsys, flag):
        film = Path(flags[4])
        before = film.read_bytes()
        for path in (film, film.parent / "." / film.name, film.parent / "link"):
            if path.name == "link":
                path.symlink_to(film)
            assert main([*flags, flag, str(path)]) == 2
            assert "that is read" in " ".join(capsys.readouterr().err.replace("│", " ").split())
            assert film.read_bytes() == before
        assert main([*flags, "--out", str(film.parent / "x"), "--picture", str(film.parent / "x")]) == 2
        assert not (film.parent / "x").exists()

    def test_result_and_picture_are_for_their_owner_alone(self, flags, tmp_path):
        out, picture = tmp_path / "result.json", tmp_path / "maps.png"
        assert main([*flags, "--columns", "laterality=LEFT", "--out", str(out), "--picture", str(picture)]) == 0
        assert [path.stat().st_mode & 0o777 for path in (out, picture)] == [0o600, 0o600]

    @pytest.mark.parametrize("columns", ["laterality=\udcff", "\udcff=LEFT"])
    def test_columns_that_are_no_text_are_refused(self, flags, tmp_path, columns, capsys):
        assert main([*flags, "--columns", columns, "--out", str(tmp_path / "result.json")]) == 3
        assert read_result(tmp_path / "result.json").outcome is Outcome.REFUSED
        assert "columns" in capsys.readouterr().out

    def test_a_release_that_is_none_is_an_error(self, flags, tmp_path, capsys):
        flags[2] = str(tmp_path / "none")
        assert main(flags) == 1
        assert "Expected a release in" in capsys.readouterr().err
