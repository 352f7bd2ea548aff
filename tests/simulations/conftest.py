"""Tables of a phantom without images: whatever trains on clinical columns alone needs no more, and little time."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.phantom.case_tables import write_tables
from simulations.phantom.file_plan import plan_views
from simulations.phantom.population import draw_patients


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClinicalPhantom:
    """The tables of the smoke preset's phantom, and a cache for what simulations write."""

    root: Path
    cache: Path

    def overrides(self, run_dir: Path, *more: str) -> list[str]:
        fixed = ["preset=smoke", "phantom.num_patients=null", "model.modality=clinical", f"data.root={self.root}"]
        return [*fixed, f"data.cache_dir={self.cache}", f"run.dir={run_dir}", *more]


@pytest.fixture(scope="session")
def clinical_phantom(tmp_path_factory: pytest.TempPathFactory) -> ClinicalPhantom:
    """The four case descriptions and the roster of 80 patients, seed 0."""
    root = tmp_path_factory.mktemp("tables")
    patients = draw_patients(80, 0)
    write_tables(root, patients, [view for views in plan_views(patients, 0).values() for view in views])
    return ClinicalPhantom(root=root, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def clinical(clinical_phantom: ClinicalPhantom, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the overrides of a run on clinical columns, with more of them."""

    def overrides(*more: str) -> list[str]:
        return clinical_phantom.overrides(tmp_path / "run", *more)

    return overrides
