"""The names of the studies and what each is for, without what it takes to run them."""

from collections.abc import Mapping

CROSS_VALIDATION, SEARCH = "cross-validation", "search"
PURPOSES: Mapping[str, str] = {
    CROSS_VALIDATION: "k-fold over training patients; the test split stays unseen",
    SEARCH: "which recipe: candidates cross-validated over training patients",
    "leave-one-hospital-out": "generalisation to a hospital that never trained",
    "cross-site": "every hospital's own network and the federated one, at every hospital",
    "baselines": "centralised, local, one modality, logistic regression, majority",
    "epsilon": "the price of privacy",
}
