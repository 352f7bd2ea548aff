"""Numbers from a download: the same bytes again, of the training split alone, and runs that may begin with them."""

import dataclasses
import json

import numpy as np
import pytest

from client.data.tables.site_table import read_roster, read_table
from server.report.html_report import REPORT_FILE
from server.report.model_card import MODEL_CARD_FILE
from server.results.document import RESULTS_FILE, read_results
from shared_model.config.composition import compose
from shared_model.reference.reference_file import read_reference, to_bytes
from shared_model.vocabulary import Split
from simulations.commands.app import main
from simulations.run import main as simulate

READ_AS_SMOKE = (
    "model.backbone=efficientnet_lite0",
    "model.image_components=4",
    "data.image.size=64",
    "data.views=own",
    "data.lesion_types=[mass,calcification]",
)


def make(smoke, out, *more):
    data = (f"data.root={smoke.root}", f"data.cache_dir={smoke.cache}")
    return main(["reference", "constants", *data, *READ_AS_SMOKE, "--out", str(out), *more])


@pytest.fixture(scope="module")
def of_wfu(smoke, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "wfu.safetensors"
    assert make(smoke, path, "--sites", "WFU") == 0
    return path


@pytest.fixture(scope="module")
def table(smoke):
    config = compose(smoke.overrides(smoke.first / "unused"))
    return read_table(config).frame, read_roster(config.data)


def begin_with(file, sites):
    return (
        f"federation.sites=[{','.join(sites)}]",
        "federation.min_sites=1",
        "data.public_fraction=0",
        "evaluation.threshold_from=training",
        "model.feature_constants=shipped",
        f"model.constants_file={file}",
        "model.initial_head=shipped",
    )


def test_the_command_gives_the_same_bytes_again(smoke, of_wfu, tmp_path, capsys):
    again = tmp_path / "again.safetensors"
    assert make(smoke, again, "--sites", "WFU") == 0
    assert again.read_bytes() == of_wfu.read_bytes()
    assert f"{again.stat().st_size} bytes in {again}, SHA-256 " in capsys.readouterr().out


def test_no_path_of_this_machine_is_in_the_file(smoke, of_wfu, tmp_path):
    again = tmp_path / "again.safetensors"
    paths = (f"evaluation.holdout={tmp_path}/test.csv", "evaluation.public=public/a.csv", "federation.site_policy=a/b")
    assert make(smoke, again, "--sites", "WFU", *paths) == 0
    assert again.read_bytes() == of_wfu.read_bytes()


def test_they_are_of_the_training_patients_of_the_named_hospital(of_wfu, table):
    facts, (frame, roster) = read_reference(of_wfu).facts, table
    expected = {patient for patient in frame["patient_id"][frame["split"] == Split.TRAIN] if roster[patient] == "WFU"}
    assert set(facts.patients) == expected
    assert facts.sites == ("WFU",)
    assert facts.command == f"fedmammo reference constants data.root=PATH {' '.join(READ_AS_SMOKE)} --sites WFU"


def test_without_sites_all_hospitals_count(smoke, table, tmp_path):
    assert make(smoke, tmp_path / "all.safetensors") == 0
    facts, (frame, _) = read_reference(tmp_path / "all.safetensors").facts, table
    assert set(facts.patients) == set(frame["patient_id"][frame["split"] == Split.TRAIN])


def test_what_is_usual_are_the_moments_of_the_components(of_wfu):
    arrays = read_reference(of_wfu).arrays
    # Components are uncorrelated and sorted by their spread; the mean is taken out.
    np.testing.assert_allclose(arrays["component_mean"], 0, atol=1e-4)
    assert (np.diff(arrays["component_std"]) <= 0).all()
    assert any(arrays[f"head.{name}"].any() for name in ("image", "safe", "descriptors"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sites", "NOWHERE"], "Expected --sites NOWHERE in data.roster=sites.csv, which names ISMD, MGH, WFU."),
        (["privacy=patient"], "Expected privacy=patient to be off: the data are public"),
        (["model.hidden_width=4"], "Expected model.hidden_width=4 to be 0 for constants of public lesions."),
        (["model.image_components=0"], "Expected model.image_components=0 to be > 0"),
        (["training.sampling_rate=0.5"], "Expected training.sampling_rate=0.5 to be 1"),
        (["model.image_components=320"], ">= 321 for model.image_components=320"),
    ],
)
def test_what_gives_none_is_said_in_one_line(smoke, tmp_path, capsys, more, message):
    assert make(smoke, tmp_path / "none.safetensors", *more) == 1
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert not (tmp_path / "none.safetensors").exists()


@pytest.mark.slow
def test_a_run_over_other_hospitals_begins_with_them_and_names_them(smoke, of_wfu, tmp_path, capsys, blank_pictures):
    folder = tmp_path / "run"
    assert main(["simulate", *smoke.overrides(folder, *begin_with(of_wfu, ["MGH", "ISMD"]))]) == 0
    reference, results = read_reference(of_wfu), read_results(folder / RESULTS_FILE)
    found = results.reference
    assert (found.data_set, found.sites, found.licence) == ("CBIS-DDSM", ("WFU",), "CC BY 3.0")
    assert (found.file_sha256, found.has_head) == (reference.file_sha256, True)
    card, report = ((folder / name).read_text() for name in (MODEL_CARD_FILE, REPORT_FILE))
    printed = capsys.readouterr().out
    for text in (card, report, printed):
        for named in ("CBIS-DDSM", "CC BY 3.0", reference.file_sha256[:12], "10.7937/K9/TCIA.2016.7O02S9CY"):
            assert named in text
    assert json.loads((folder / RESULTS_FILE).read_bytes())["reference"]["num_patients"] == len(
        reference.facts.patients
    )


def test_a_run_over_their_own_hospital_is_refused(smoke, of_wfu, tmp_path, capsys):
    assert simulate(smoke.overrides(tmp_path / "run", *begin_with(of_wfu, ["MGH", "WFU"]))) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "Expected constants of other patients than those of data.source=cbis_ddsm" in error


def test_a_run_over_their_own_patients_is_refused_whatever_the_hospital_is_called(smoke, of_wfu, tmp_path, capsys):
    reference, renamed = read_reference(of_wfu), tmp_path / "renamed.safetensors"
    facts = dataclasses.replace(reference.facts, sites=("ELSEWHERE",))
    renamed.write_bytes(to_bytes(facts, reference.arrays))
    assert simulate(smoke.overrides(tmp_path / "run", *begin_with(renamed, ["MGH", "WFU"]))) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert f"{len(facts.patients)} are among those of the file" in error
