import pytest
from matplotlib.image import imread

from simulations.studies.plots import epsilon_study, site_aurocs, write_site_plot


def test_points_are_the_runs_that_have_an_auc(make_row):
    rows = [
        make_row("no privacy", epsilon=None, auroc=0.9),
        make_row("epsilon 8", epsilon=8.0, auroc=0.8),
        make_row("epsilon 8", seed=1, epsilon=8.0, auroc=0.7),
        make_row("epsilon 1", epsilon=1.0),
    ]
    study = epsilon_study(rows)
    assert [(point.seed, point.epsilon, point.auroc.value) for point in study.points] == [
        (0, None, 0.9),
        (0, 8.0, 0.8),
        (1, 8.0, 0.7),
    ]
    assert study.mean_auroc(8.0) == pytest.approx(0.75)


def test_aurocs_at_hospitals_are_means_over_seeds(make_row):
    rows = [
        make_row("federated", seed=0, auroc=0.8, by_site=(("MGH", 0.7), ("WFU", 0.9))),
        make_row("federated", seed=1, auroc=0.8, by_site=(("MGH", 0.8), ("WFU", None))),
        make_row("MGH alone", auroc=0.8, by_site=(("MGH", 0.0),)),
    ]
    assert site_aurocs(rows, ["MGH", "WFU"]) == {
        "federated": [pytest.approx(0.75), None],
        # An AUC of 0 is a value, and nobody from WFU was tested.
        "MGH alone": [0.0, None],
    }


@pytest.mark.parametrize("num_sites", [1, 4])
def test_a_plot_is_written_also_where_an_auc_is_missing(make_row, tmp_path, num_sites):
    sites = [f"S{number}" for number in range(num_sites)]
    rows = [make_row("a", auroc=0.8, by_site=(("S0", 0.7),)), make_row("b", auroc=0.8)]
    write_site_plot(tmp_path / "plot.png", rows, sites)
    height, width, _ = imread(tmp_path / "plot.png").shape
    assert width / height == pytest.approx((1.6 + 1.1 * num_sites) / 1.9, rel=0.02)
