import json
import math

import pytest
import torch

from shared_model.errors import FederatedMammographyError
from simulations.benchmarks import ledger_times, reading_times, utility
from simulations.benchmarks.cost import measurement
from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.step import Step
from simulations.commands.app import main
from simulations.studies.privacy_utility import RECIPE
from simulations.studies.runner import default_workers


def test_privacy_benchmark_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ledger_times, "_MANY_RELEASES", 20)
    out = tmp_path / "folder" / "privacy.json"
    options = ["--repeats", "1", "--num-patients", "12", "--image-size", "32", "--out", str(out)]
    assert main(["benchmark", "privacy", *options]) == 0
    found = json.loads(out.read_text())
    assert (found["num_patients"], found["image_size"], found["num_repeats"]) == (12, 32, 1)
    assert found["num_lesions"] >= 24 + 11
    rows = found["throughput"]
    for row in rows:
        assert 0 < row["ratio"] < math.inf
        # With one repeat the median of ratios is the ratio of medians.
        assert row["ratio"] == pytest.approx(row["baseline_seconds"] / row["private_seconds"])
    measured = {(row["network"], row["gradient_method"], row["baseline"]) for row in rows}
    assert len(measured) == len(rows)
    for method in ("ghost", "record", "patient"):
        assert ("early head", method, "batched") in measured
    assert ("small_cnn 32 px", "patient", "one by one") in measured
    chosen = {row["network"]: row["gradient_method"] for row in rows if row["is_chosen"]}
    assert chosen == {
        "early head": "ghost",
        "mid head": "ghost",
        "late head": "ghost",
        "small_cnn 32 px": "record",
        "resnet18 32 px, 10 patients": "patient",
    }
    whole, sampled = found["calibration"]
    assert (whole["sampling_rate"], whole["num_steps"]) == (1.0, 20)
    assert sampled["sampling_rate"] < 1
    for plan in (whole, sampled):
        assert plan["calibrate_seconds"] > 0
        assert plan["cross_check_seconds"] > 0
    young, old = found["ledger"]
    assert young["num_earlier_releases"] == 0 < old["num_earlier_releases"]
    for ledger in (young, old):
        assert ledger["round_seconds"] > 0
        assert ledger["open_seconds"] > 0
    printed = capsys.readouterr().out
    assert "Whole-cohort steps: 12 patients" in printed
    assert f"{whole['noise_multiplier']:g}" in printed


def test_features_benchmark_compares_the_engines(tmp_path, capsys):
    out = tmp_path / "features.json"
    options = ["--repeats", "1", "--num-images", "2", "--image-size", "32", "--out", str(out)]
    assert main(["benchmark", "features", *options]) == 0
    rows = json.loads(out.read_text())
    engines = [(row["backbone"], row["engine"]) for row in rows]
    assert engines == [
        (backbone, engine)
        for backbone in ("efficientnet_lite0", "efficientnet_lite1")
        for engine in ("torch", "openvino")
    ]
    for torchs, other in zip(rows[::2], rows[1::2], strict=True):
        assert (torchs["speed"], torchs["largest_difference"]) == (1, 0)
        assert other["speed"] == pytest.approx(torchs["processor_seconds"] / other["processor_seconds"])
        assert 0 < other["largest_difference"] <= 1e-5
    assert "openvino" in capsys.readouterr().out


def test_scale_benchmark_writes_what_it_measured(tmp_path, capsys):
    out, plot = tmp_path / "scale.json", tmp_path / "scale.png"
    options = ["--num-sites", "2,20", "--repeats", "1", "--small", "--out", str(out), "--out", str(plot)]
    assert main(["benchmark", "scale", *options]) == 0
    found = json.loads(out.read_text())
    few, many = found["rounds"]
    assert [(row["num_sites"], row["num_values"]) for row in found["secure_sums"]] == [
        (3, 100_000),
        (10, 100_000),
        (30, 100_000),
    ]
    assert (few["num_sites"], many["num_sites"]) == (2, 20)
    for row in (few, many):
        assert row["round_seconds"] > 0
        assert row["peak_bytes"] > row["num_bytes"] > 1000
    assert plot.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "One round without training" in printed
    assert "What a secure sum adds to a round" in printed


@pytest.mark.slow
def test_tables_benchmark_writes_what_it_measured(tmp_path, capsys):
    out = tmp_path / "tables.json"
    assert main(["benchmark", "tables", "--num-rows", "500,400", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(row["num_rows"], row["step"]) for row in found] == [
        (400, "read"),
        (400, "checks"),
        (500, "read"),
        (500, "checks"),
    ]
    assert "A hospital's own table" in capsys.readouterr().out


@pytest.fixture
def parts(monkeypatch):
    """Every part of the cost benchmark yields one step for each of its sizes, at once; the fixture is what it got."""
    asked = []

    def stand_in(part, unit):
        def measure(sizes, *more, progress, **options):
            asked.append((part, sizes, more, options))
            progress(part)
            for size in sizes:
                yield Step(
                    part=part,
                    step="all",
                    size=size,
                    unit=unit,
                    processor_seconds=1e-3 * size,
                    elapsed_seconds=2e-3 * size,
                    peak_bytes=10**8,
                )

        return measure

    for name, part, unit in (
        ("measure_rounds", "rounds", "sites"),
        ("measure_ledgers", "ledger", "patients"),
        ("measure_ingest", "ingest", "rows"),
        ("measure_preflight", "preflight", "rows"),
        ("measure_training", "training", "patients"),
        ("measure_runs", "run", "patients"),
        ("measure_deployed", "deployed", "sites"),
    ):
        monkeypatch.setattr(measurement, name, stand_in(part, unit))
    return asked


def test_cost_benchmark_measures_every_part_and_writes_what_it_measured(tmp_path, capsys, parts):
    files = {suffix: tmp_path / f"cost.{suffix}" for suffix in ("json", "csv", "md", "png")}
    sizes = {
        "--num-sites": "3,1",
        "--num-patients": "30",
        "--num-cohorts": "4",
        "--num-rows": "500,400",
        "--num-trained": "10",
        "--num-synthetic": "60",
        "--num-deployed": "2",
        "--repeats": "5",
    }
    words = [word for pair in sizes.items() for word in pair]
    out = [word for path in files.values() for word in ("--out", str(path))]
    assert main(["benchmark", "cost", *words, *out, "data.root=there"]) == 0
    assert [part for part, *_ in parts] == [str(part) for part in CostPart]
    assert {part: list(sizes) for part, sizes, *_ in parts} == {
        "rounds": [1, 3],
        "ledger": [30],
        "ingest": [400, 500],
        "preflight": [400, 500],
        "training": [10],
        "run": [60],
        "deployed": [2],
    }
    more = {part: (more, options) for part, _, more, options in parts}
    assert more["ledger"] == ((4,), {"num_repeats": 5})
    assert more["run"] == ((["data.root=there"],), {"num_repeats": 5})
    assert more["deployed"] == ((), {"num_rounds": 8, "waiting_seconds": 20.0})
    found = json.loads(files["json"].read_text())
    assert [(step["part"], step["size"]) for step in found][:4] == [
        ("rounds", 1),
        ("rounds", 3),
        ("ledger", 30),
        ("ingest", 400),
    ]
    assert len(files["csv"].read_text().splitlines()) == 1 + len(found) == 11
    assert capsys.readouterr().out == files["md"].read_text()
    assert len(files["md"].read_text().splitlines()) == 2 + len(CostPart)
    assert files["png"].stat().st_size > 1000


def test_parts_of_the_cost_benchmark_alone(capsys, parts):
    assert main(["benchmark", "cost", "--part", "training", "--part", "ledger"]) == 0
    assert [part for part, *_ in parts] == ["ledger", "training"]
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["ledger: all", "training: all"]


def test_an_interrupted_cost_benchmark_keeps_and_shows_what_it_measured(tmp_path, monkeypatch, capsys, parts):
    def interrupted(_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(measurement, "measure_ingest", interrupted)
    out = tmp_path / "cost.json"
    assert main(["benchmark", "cost", "--num-sites", "1", "--num-patients", "30", "--out", str(out)]) == 130
    assert [step["part"] for step in json.loads(out.read_text())] == ["rounds", "ledger"]
    captured = capsys.readouterr()
    assert "| ledger: all |" in captured.out
    assert "what was measured is shown and in the files" in captured.err


@pytest.mark.slow
def test_rounds_ledger_and_ingest_are_measured(tmp_path):
    out = tmp_path / "cost.json"
    sizes = ["--num-sites", "3,1", "--num-patients", "30", "--num-cohorts", "3", "--num-rows", "400", "--repeats", "2"]
    parts = [word for part in ("rounds", "ledger", "ingest") for word in ("--part", part)]
    assert main(["benchmark", "cost", *sizes, *parts, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(step["part"], step["step"], step["size"], step["unit"]) for step in found] == [
        ("rounds", "first round", 1, "sites"),
        ("rounds", "round", 1, "sites"),
        ("rounds", "first round", 3, "sites"),
        ("rounds", "round", 3, "sites"),
        ("ledger", "open and verify", 30, "patients in 3 cohorts"),
        ("ledger", "first round of a process", 30, "patients in 3 cohorts"),
        ("ledger", "round", 30, "patients in 3 cohorts"),
        ("ingest", "read", 400, "rows"),
        ("ingest", "checks", 400, "rows"),
    ]
    for step in found:
        assert step["processor_seconds"] > 0
        assert step["elapsed_seconds"] > 0
        assert step["peak_bytes"] > 10**7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["privacy", "--repeats", "0"], "expected 0 >= 1"),
        (["privacy", "--num-patients", "9"], "expected 9 >= 10"),
        (["privacy", "--image-size", "31"], "expected 31 >= 32"),
        (["scale", "--num-sites", "10,0"], "expected 0 >= 1"),
        (["tables", "--num-rows", "399"], "expected 399 >= 400"),
        (["cost", "--part", "disk"], "'disk' is not one of"),
        (["cost", "--num-patients", "1"], "expected 1 >= 2"),
        (["cost", "--num-trained", "9"], "expected 9 >= 10"),
        (["cost", "--num-synthetic", "39"], "expected 39 >= 40"),
        (["cost", "--num-deployed", "0"], "expected 0 >= 1"),
        (["cost", "--out", "cost.txt"], "expected cost.txt to end in .json, .csv, .md or .png"),
        (["scale", "--out", "scale.jpg"], "expected scale.jpg to end in .json or .png"),
    ],
)
def test_the_command_line_is_checked(capsys, options, message):
    assert main(["benchmark", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_benchmark_must_be_named(capsys):
    assert main(["benchmark"]) == 2
    assert "Usage: fedmammo benchmark" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ((0, 1, 2, 3, 4), "runs/utility", default_workers(), 1000)),
        (["--seeds", "7", "--workers", "3", "--resamples", "100", "--out", "here"], ((7,), "here", 3, 100)),
    ],
)
def test_what_the_utility_benchmark_asks_for(monkeypatch, tmp_path, flags, expected):
    asked, num_threads = [], torch.get_num_threads()
    monkeypatch.setattr(utility, "report_utility", lambda study, _console, **more: asked.append((study, more)))
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", "utility", "data.root=there", *flags]) == 0
    # The command sets them for its whole process.
    torch.set_num_threads(num_threads)
    ((study, more),) = asked
    assert study.overrides == (*RECIPE, "data.root=there")
    folder = str(study.folder.relative_to(tmp_path))
    assert (study.seeds, folder, more["num_workers"], more["num_resamples"]) == expected


@pytest.mark.slow
def test_reading_benchmark_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading_times, "FILM_PIXELS", (1500, 900))
    out = tmp_path / "reading.json"
    assert main(["benchmark", "reading", "--repeats", "1", "--out", str(out)]) == 0
    rows = {row["what"]: row for row in json.loads(out.read_text())}
    assert [row["target_seconds"] for row in rows.values()] == [0.5, 1.2, None, 3.0, None]
    for row in rows.values():
        assert 0 < row["median_seconds"] <= row["late_seconds"]
        assert row["peak_bytes"] > 2**27
    assert rows["two crops, cold"]["median_seconds"] > rows["two crops, warm"]["median_seconds"]
    assert "two films of 1500 x 900, warm" in rows
    assert "One lesion read" in capsys.readouterr().out


@pytest.mark.slow
def test_a_lesion_that_is_not_read_has_no_time(monkeypatch):
    monkeypatch.setattr(reading_times, "CROP_SIDE", 2000)
    with pytest.raises(FederatedMammographyError, match="Expected a reading, got refused: Expected a crop"):
        list(reading_times.measure_readings(1, progress=lambda _: None))
