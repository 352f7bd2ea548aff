"""The names of the studies and what each is for, without what it takes to run them."""

from collections.abc import Mapping
from enum import StrEnum

CROSS_VALIDATION, SEARCH = "cross-validation", "search"
PURPOSES: Mapping[str, str] = {
    CROSS_VALIDATION: "Cross-validate over training patients; the test split stays unseen.",
    SEARCH: "Which recipe: cross-validate every candidate over training patients.",
    "leave-one-hospital-out": "Train without one hospital, and test there.",
    "cross-site": "Every hospital's own network and the federated one, tested at every hospital.",
    "baselines": "What else there is: centralised, local, one modality, logistic regression, majority.",
    "epsilon": "The price of privacy: one run for every epsilon, and one without.",
}


class Part(StrEnum):
    """A table of the privacy-utility study, and the runs behind it."""

    INPUTS = "inputs"
    COMPARISONS = "comparisons"
    SHIPPED = "shipped-constants"
    SHARED_NOISE = "shared-noise"
