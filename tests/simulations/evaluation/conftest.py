"""The smoke phantom's lesions as a manifest of crops, as another hospital might hand them over."""

import csv
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from client.data.images import read_image
from client.data.preprocessing import is_mask
from client.data.tables.site_table import read_table
from shared_model.config import compose

COLUMNS = (
    *("patient_id", "finding_id", "lesion_id", "image_path", "label", "split", "breast_density", "laterality", "view"),
    *("abnormality_type", "mass_shape", "mass_margins", "calc_type", "calc_distribution", "subtlety"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifests:
    """A folder with the crops of all lesions, and tables beside them."""

    folder: Path
    rows: tuple[dict[str, str], ...]

    def write(self, name: str, rows, columns=COLUMNS) -> Path:
        path = self.folder / name
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows([row.get(column, "") for column in columns] for row in rows)
        return path


def text(cell) -> str:
    return "" if cell is None or str(cell) == "<NA>" else str(cell)


@pytest.fixture(scope="session")
def manifests(smoke, tmp_path_factory) -> Manifests:
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "crops").mkdir()
    frame = read_table(compose(smoke.overrides(folder / "unused"))).frame
    rows = []
    for number, row in enumerate(frame.to_dict("records")):
        crop = next(path for path in row["lesion_paths"] if not is_mask(read_image(smoke.root / path).pixels))
        os.link(smoke.root / crop, folder / "crops" / f"{number}.dcm")
        cells = {name: text(row[name]) for name in COLUMNS if name in row}
        rows.append({**cells, "image_path": f"crops/{number}.dcm", "label": text(row["pathology"])})
    return Manifests(folder=folder, rows=tuple(rows))


@pytest.fixture
def evaluate(smoke, tmp_path) -> Callable[..., Path]:
    """Evaluate a run, by default the smoke run, and return the new folder."""
    from simulations.commands.app import main  # noqa: PLC0415, takes seconds

    count = iter(range(100))

    def run(*arguments, of=smoke.first) -> Path:
        out = tmp_path / f"out-{next(count)}"
        assert main(["evaluate", str(of), "--cache", str(smoke.cache), "--out", str(out), *map(str, arguments)]) == 0
        return out

    return run
