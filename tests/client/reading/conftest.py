"""Releases that the tests of the reader share, and pictures of a lesion."""

import dataclasses
from pathlib import Path

import pytest

from client.data.preprocessing import Box
from client.reading.reader import Reader
from client.reading.request import LesionRequest, Picture
from shared_model.vocabulary import View
from tests.releases import mass, release_in


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory):
    """A signed release for crops, calibrated on public masses."""
    return release_in(tmp_path_factory.mktemp("calibrated"), with_public=True)


@pytest.fixture(scope="session")
def reader(calibrated):
    return Reader.open(calibrated.folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
    cc: Path
    mlo: Path

    def request(self, *, box: Box | None = None, **columns) -> LesionRequest:
        pictures = (Picture(path=self.cc, view=View.CC, box=box), Picture(path=self.mlo, view=View.MLO, box=box))
        return LesionRequest(pictures=pictures, columns={"laterality": "LEFT", "breast_density": "2", **columns})


@pytest.fixture
def views(tmp_path):
    """Two views of a malignant mass."""
    cc, mlo = (mass(tmp_path / f"{name}.png", seed, is_malignant=True) for name, seed in (("cc", 1001), ("mlo", 1003)))
    return Views(cc=cc, mlo=mlo)
