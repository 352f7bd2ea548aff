"""From a run to its dossier by the commands: every figure is that of its file, and every link leads somewhere."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml

from server.deployment.provision import provision
from server.dossier import folder as dossier_folder
from server.dossier.catalogue import ItemAnswer, Status, load_catalogue
from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from server.evaluation.training_histogram import write_training_histogram
from server.release.assembly import Choices, RunToRelease, assemble
from server.release.folder import write_release
from server.release.public_calibration import PublicLesions
from shared_model.data.lesions import Lesions
from shared_model.privacy.patient_histogram import PatientHistogram
from simulations.commands.app import main
from simulations.evaluation.finished_model import FinishedModel


def release_of(run, out, *flags):
    assert main(["server", "release", str(run), "--out", str(out), "--unsigned", *flags]) == 0
    return out


@pytest.fixture(scope="module")
def lacking(smoke, tmp_path_factory):
    """A dossier of a run with few test lesions, none that a reader's figures may be made of, and no public ones."""
    folder = tmp_path_factory.mktemp("lacking")
    release_of(smoke.first, folder / "release")
    made = ["server", "dossier", str(folder / "release"), "--run", str(smoke.first), "--out", str(folder / "dossier")]
    assert main(made) == 0
    return folder


@pytest.fixture(scope="module")
def whole(smoke, tmp_path_factory):
    """One of a run that has all: many test lesions with a reader's assessment, a histogram, public lesions."""
    folder = tmp_path_factory.mktemp("whole")
    run = shutil.copytree(smoke.first, folder / "run")
    generator = np.random.default_rng(0)
    labels = np.arange(160) % 2
    test = Predictions(
        labels=labels,
        scores=1 / (1 + np.exp(-generator.normal(2 * (labels - 0.5)))),
        patients=np.arange(160),
        attributes={"assessment": tuple("4" if row % 3 else "2" for row in range(160))},
    )
    (run / PREDICTIONS_FILE).write_bytes(test.to_csv())
    counts = np.array([120.0, 80, 60, 30, 15, 5])
    write_training_histogram(run, PatientHistogram(negatives=counts, positives=counts[::-1], noise_std=1.0))
    configuration = yaml.safe_load((run / "config.yaml").read_text())
    configuration["data"]["features"] = "safe"
    configuration["phantom"]["num_patients"] = None
    (run / "config.yaml").write_text(yaml.safe_dump(configuration))
    model = FinishedModel.open(smoke.first)
    few = Lesions.load(smoke.first / "public.safetensors")
    rows = torch.arange(200) % len(few.labels)
    public = PublicLesions(
        lesions=Lesions(
            images=few.images[rows], has_image=few.has_image[rows], clinical=few.clinical[rows],
            labels=(torch.arange(200) % 2).float(), patients=torch.arange(200),
        ),
        source="made for a test", overlaps_training=False, grey_reference=None,
    )  # fmt: skip
    finished = RunToRelease(folder=smoke.first, config=model.config, results=model.results, network=model.network)
    choices = Choices(name="whole", is_signed=False, level=0.9, is_holdout_public=True, has_onnx=False)
    write_release(folder / "release", *assemble(finished, choices, public), None)
    made = ["server", "dossier", str(folder / "release"), "--run", str(run), "--out", str(folder / "dossier")]
    assert main(made) == 0
    return folder


@pytest.fixture(params=["lacking", "whole"])
def dossier(request):
    return request.getfixturevalue(request.param) / "dossier"


def walk(value, key):
    """Follow a key of the dossier, in a way of its own."""
    for name in key[1:].split("/"):
        if isinstance(value, list):
            field, _, wanted = name.partition("=")
            value = next(each for each in value if str(each[field]) == wanted) if wanted else value[int(name)]
        else:
            value = value[name]
    return value


def document(dossier):
    return json.loads((dossier / "dossier.json").read_text())


def test_every_figure_is_that_of_its_file(dossier):
    values = document(dossier)
    assert len(values["figures"]) > 5
    for figure in values["figures"]:
        stored = walk(json.loads((dossier / figure["file"]).read_text()), figure["key"])
        assert stored == figure["value"]
        assert stored is not None
        number = stored["value"] if isinstance(stored, dict) else stored
        if isinstance(number, float):
            assert float(figure["shown"].split()[0]) == pytest.approx(number, abs=5e-4)
        if figure["interval_key"] is not None:
            interval = walk(json.loads((dossier / figure["file"]).read_text()), figure["interval_key"])
            shown = re.search(r"\((\S+) to (\S+)\)$", figure["shown"])
            assert [float(end) for end in shown.groups()] == pytest.approx(interval, abs=5e-4)


def test_every_link_leads_somewhere(dossier):
    page = (dossier / "dossier.html").read_text()
    report = (dossier / "files" / "report.html").read_text()
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) > 50
    for target in links:
        name, _, anchor = target.partition("#")
        if name:
            assert (dossier / name).is_file(), target
        assert not anchor or f'id="{anchor}"' in (report if name else page), target
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_page_and_document_say_that_it_is_no_device(dossier):
    page = re.sub(r"\s+", " ", (dossier / "dossier.html").read_text())
    values = document(dossier)
    assert "Research software, no medical device." in page
    assert values["disclaimer"].startswith("Research software, no medical device.")
    assert "claims no conformity" in values["disclaimer"]
    assert "far more lesions are malignant here than in screening" in page
    for checklist in values["checklists"]:
        assert sum(checklist["counts"].values()) == len(checklist["items"])
        assert checklist["counts"]["not answered"] > 5
    assert not re.search(r"\[\[|\{\{|<bound|<built-in|Part\(|>None<", page)


def test_a_run_that_lacks_something_says_so(lacking):
    values = document(lacking / "dossier")
    assert values["is_synthetic"]
    assert any("Conformal sets need 30 test patients" in reason for reason in values["missing"])
    page = (lacking / "dossier" / "dossier.html").read_text()
    assert "The patients of this run are synthetic" in page
    assert "show it only to those who may see the report of the run" in page
    assert "NOT SIGNED" in page
    risks = {risk["id"]: risk for risk in values["risks"]}
    assert risks["R3"]["evidence"]["text"] == "None."
    assert risks["R4"]["probability"]["text"] == "Not estimated. This release has no check of novelty."


def test_a_run_that_has_all_cites_it(whole):
    values = document(whole / "dossier")
    assert (values["missing"], values["is_synthetic"]) == ([], False)
    keys = {figure["key"] for figure in values["figures"]}
    for key in (
        "/second_reader/rules/referral/sensitivity",
        "/public/abstention/measured/abstained",
        "/what_if/operating threshold/rows/0/ppv",
    ):
        assert key in keys
    assert "show it only to" not in (whole / "dossier" / "dossier.html").read_text()


def test_a_claim_whose_key_does_not_exist_makes_no_dossier(lacking, smoke, tmp_path, monkeypatch, capsys):
    catalogue = load_catalogue()
    first, *others = catalogue.checklists
    wrong = ItemAnswer(status=Status.ANSWERED, text="AUC [[results:/final/auc]]")
    for answer in (wrong, dataclasses.replace(wrong, text="x", at=("report#nowhere",))):
        items = (dataclasses.replace(first.items[0], answers=(answer,)), *first.items[1:])
        changed = dataclasses.replace(catalogue, checklists=(dataclasses.replace(first, items=items), *others))
        monkeypatch.setattr(dossier_folder, "load_catalogue", lambda changed=changed: changed)
        out = tmp_path / "dossier"
        made = ["server", "dossier", str(lacking / "release"), "--run", str(smoke.first), "--out", str(out)]
        assert main(made) == 1
        assert re.search(r"key /final/auc in results.json|section report#nowhere", capsys.readouterr().err)
        assert not out.exists()


def test_release_and_run_must_belong_together(lacking, smoke, tmp_path, capsys):
    other = shutil.copytree(smoke.first, tmp_path / "run")
    results = json.loads((other / "results.json").read_text())
    results["provenance"]["config_fingerprint"] = "another"
    (other / "results.json").write_text(json.dumps(results))
    made = ["server", "dossier", str(lacking / "release"), "--run", str(other), "--out", str(tmp_path / "dossier")]
    assert main(made) == 1
    assert "it is another" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        lambda results: results["final"].update(threshold=0.01),
        lambda results: results["final"].update(auroc=0.999),
        lambda results: results["final"].update(sensitivity_interval=[0.9, 1.0]),
        lambda results: results["privacy"].update(statement="Perfectly private."),
        lambda results: results["sites"][0].update(epsilon=0.001, epsilon_by_colluding=[0.001]),
    ],
    ids=["threshold", "auroc", "interval", "statement", "epsilon"],
)
def test_results_that_were_changed_after_the_release_have_no_dossier(whole, tmp_path, capsys, change):
    run, out = shutil.copytree(whole / "run", tmp_path / "run"), tmp_path / "dossier"
    results = json.loads((run / "results.json").read_text())
    change(results)
    (run / "results.json").write_text(json.dumps(results))
    assert main(["server", "dossier", str(whole / "release"), "--run", str(run), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "results.json" in said
    assert "to say what the release says" in said
    assert not out.exists()


@pytest.fixture(scope="module")
def signed(smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed")
    kits = provision(
        out=folder / "k", sites=["a"], hosts=["localhost"], port=1, valid_days=9, approved_bundles=[]
    )  # fmt: skip
    made = ["server", "release", str(smoke.first), "--out", str(folder / "release"), "--kit", str(kits.server)]
    assert main(made) == 0
    return folder / "release"


@pytest.mark.parametrize("name", [None, "release.json", "model_card.md", "model.safetensors", "release.sig"])
def test_a_changed_release_has_no_dossier(signed, smoke, tmp_path, capsys, name):
    release = shutil.copytree(signed, tmp_path / "release")
    if name is not None:
        content = bytearray((release / name).read_bytes())
        content[len(content) // 2] ^= 1
        (release / name).write_bytes(content)
    capsys.readouterr()
    made = ["server", "dossier", str(release), "--run", str(smoke.first), "--out", str(tmp_path / "dossier")]
    assert main(made) == (0 if name is None else 1)
    assert capsys.readouterr().err.count("\n") == (0 if name is None else 1)
    assert (tmp_path / "dossier").exists() == (name is None)
    if name is None:
        # The dossier knows no authority.
        assert "signed (by whom was not asked here)" in (tmp_path / "dossier" / "dossier.html").read_text()


def test_a_folder_in_use_is_left_alone(lacking, smoke, tmp_path, capsys):
    (tmp_path / "mine").write_text("x")
    made = ["server", "dossier", str(lacking / "release"), "--run", str(smoke.first), "--out", str(tmp_path)]
    assert main(made) == 1
    assert "new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_text_of_a_release_becomes_no_markup(lacking, smoke, tmp_path):
    release = release_of(smoke.first, tmp_path / "release", "--name", "<script>alert(1)</script>")
    out = tmp_path / "dossier"
    assert main(["server", "dossier", str(release), "--run", str(smoke.first), "--out", str(out)]) == 0
    assert "<script>" not in (out / "dossier.html").read_text()
