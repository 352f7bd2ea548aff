"""What the tests of the phantom share: a lesion by its descriptors, and one small phantom on disk."""

import pytest

from shared_model.vocabulary import Laterality, LesionType, Pathology, Split, View
from simulations.phantom.patients import Lesion
from simulations.phantom.write import write_phantom


@pytest.fixture(scope="session")
def lesion():
    """Make a lesion with these two descriptors."""

    def make(shape_or_type, margins_or_distribution, *, lesion_type=LesionType.MASS, aggressiveness=0.0, subtlety=4):
        return Lesion(
            lesion_type=lesion_type,
            split=Split.TRAIN,
            laterality=Laterality.LEFT,
            number=1,
            views=(View.CC,),
            pathology=Pathology.BENIGN,
            recorded_density=2,
            shape_or_type=shape_or_type,
            margins_or_distribution=margins_or_distribution,
            assessment=3,
            subtlety=subtlety,
            aggressiveness=aggressiveness,
        )

    return make


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """The root of a phantom of 40 patients, seed 3."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(root, num_patients=40, seed=3, num_workers=1)
    return root
