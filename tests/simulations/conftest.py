"""Tables of a phantom without images: whatever trains on clinical columns alone needs no more, and no time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.phantom.case_tables import write_tables
from simulations.phantom.file_plan import plan_views
from simulations.phantom.population import draw_patients


@pytest.fixture(scope="session")
def tables_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the four case descriptions and the roster of 80 patients, seed 0."""
    root = tmp_path_factory.mktemp("tables")
    patients = draw_patients(80, 0)
    write_tables(root, patients, [view for views in plan_views(patients, 0).values() for view in views])
    return root


@pytest.fixture(scope="session")
def clinical_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def clinical(tables_root: Path, clinical_cache: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the overrides of a run on clinical columns, with more of them."""

    def overrides(*more: str) -> list[str]:
        fixed = ["preset=smoke", "phantom.num_patients=null", "model.modality=clinical", f"data.root={tables_root}"]
        return [*fixed, f"data.cache_dir={clinical_cache}", f"run.dir={tmp_path / 'run'}", *more]

    return overrides
