"""What a large table costs: a hospital of so many rows passes every check, and each step is measured."""

import csv

import pytest

from client.data.image_files import open_image
from client.deployment.checks import Status
from client.deployment.initialisation import initialise
from client.deployment.preflight import check_own_table, preflight
from client.deployment.site_file import SiteFile
from shared_model.errors import DataError
from simulations.benchmarks import table_costs
from simulations.benchmarks.synthetic_hospital import write_hospital
from simulations.benchmarks.table_costs import exponent, measure_tables

NUM_ROWS = 402


@pytest.fixture
def site(tmp_path):
    return SiteFile.load(write_hospital(tmp_path, NUM_ROWS))


def test_the_hospital_has_its_rows_and_every_image_is_one_patients(site):
    with site.data_root.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == NUM_ROWS
    assert {row["split"] for row in rows} == {"train", "test"}
    assert {row["label"] for row in rows} == {"0", "1"}
    assert len({row["patient_id"] for row in rows}) == 101
    images = [site.data_root.parent / row["image_path"] for row in rows if row["image_path"]]
    contents = set()
    for path in images:
        with open_image(path) as file:
            contents.add(file.read())
    assert len(contents) == len(images) == 41
    assert len({path.stat().st_size for path in images}) == 1


@pytest.mark.slow
def test_the_checks_that_are_measured_are_those_of_preflight_and_none_fails(site):
    initialise(site)
    measured, all_checks = check_own_table(site), preflight(site)
    assert all(check.status is not Status.FAILED for check in measured)
    by_name = {check.name: check for check in all_checks}
    assert [by_name[check.name] for check in measured] == measured
    assert by_name["images"].detail.startswith("41 of 402 lesions have an image; 4 files opened")
    assert by_name["patients of files"].detail.startswith("41 DICOM headers read")
    assert by_name["training patients"].detail.endswith("patients of both classes")
    # The others read settings, ledger and machine.
    assert set(by_name) - {check.name for check in measured} >= {"ledger", "rollback", "policy", "disk", "arithmetic"}


@pytest.mark.slow
def test_each_step_is_measured_in_a_process_of_its_own():
    progress = []
    read, checks = measure_tables([NUM_ROWS], progress=progress.append)
    assert (read.step, checks.step) == (table_costs.READ, table_costs.CHECKS)
    for cost in (read, checks):
        assert (cost.num_rows, cost.num_images) == (NUM_ROWS, 41)
        assert cost.processor_seconds > 0
        assert cost.elapsed_seconds > 0
        # Python, numpy, pandas and torch are more than this, and were not counted as the table's.
        assert cost.peak_bytes > 10**8 > cost.table_bytes > 0
    assert progress[-1] == f"{NUM_ROWS} rows: checks"


def test_a_check_that_fails_is_no_figure(site):
    initialise(site)
    site.data_root.write_text("patient_id,label,split\n1,0,train\n")
    with pytest.raises(DataError, match="images: Expected images, 0 of 1 lesions"):
        table_costs._check(site)


def test_too_few_rows_for_a_cohort(tmp_path):
    with pytest.raises(ValueError, match="num_rows=399 >= 400"):
        write_hospital(tmp_path, 399)


@pytest.mark.parametrize(("costs", "power"), [((2.0, 20.0), 1.0), ((2.0, 200.0), 2.0), ((3.0, 3.0), 0.0)])
def test_exponent(costs, power):
    assert exponent((1000, 10_000), costs) == pytest.approx(power)
