"""What the tests of studies share: rows with figures that a test chooses, and prepared data without images."""

import pytest

from server.results.estimate import Estimate
from server.results.evidence import Evidence, GroupResult, Level, LevelResult
from shared_model.config.composition import compose
from shared_model.metrics.intervals import ConfidenceInterval
from simulations.federation.prepare import prepare
from simulations.studies.protocols import StudyData
from simulations.studies.results import Row


def estimate(name, value, half_width=None):
    interval = None
    if half_width is not None:
        interval = ConfidenceInterval(low=value - half_width, high=value + half_width)
    return Estimate(name=name, value=value, interval=interval)


@pytest.fixture(scope="session")
def make_row():
    """Make the row of a run with these figures by lesion, and AUCs by hospital."""

    def make(run, *, seed=0, epsilon=8.0, by_site=(), against_first=None, half_width=None, source="0" * 64, **figures):
        level = LevelResult(
            level=Level.LESION,
            num_units=8,
            num_malignant=4,
            auroc_interval_delong=None,
            tp=None,
            fp=None,
            tn=None,
            fn=None,
            figures=tuple(estimate(name, value, half_width) for name, value in figures.items()),
        )
        groups = tuple(
            GroupResult(
                attribute="site",
                value=site,
                num_lesions=4,
                num_malignant=2,
                num_patients=3,
                is_small=True,
                figures=(estimate("auroc", value),),
            )
            for site, value in by_site
        )
        evidence = Evidence(prevalence=0.01, levels=(level,), groups=groups) if figures else None
        return Row(
            run=run,
            seed=seed,
            epsilon=epsilon,
            evidence=evidence,
            against_first=against_first,
            site_auroc=None,
            source=source,
        )

    return make


@pytest.fixture(scope="session")
def data(clinical_phantom, tmp_path_factory):
    """The data of a study on clinical columns."""
    config = compose(clinical_phantom.overrides(tmp_path_factory.mktemp("study") / "data"))
    return StudyData.from_prepared(prepare(config, on_progress=lambda *_: None))
