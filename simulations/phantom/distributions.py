"""How patients and lesions of CBIS-DDSM are distributed: the numbers from which the phantom is drawn.

All shares are rounded counts over the four official case descriptions, 1,696 mass and 1,872 calcification rows
(Sawyer-Lee et al. 2016, The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al. 2017, Sci. Data
4:170177).
"""

from collections.abc import Mapping

from shared_model.vocabulary import LesionType, Pathology

SITE_SHARES = {"MGH": 0.3, "WFU": 0.5, "ISMD": 0.2}
"""Share of each hospital in the patients; in CBIS-DDSM the hospitals have 38, 51 and 11 %."""
SERIES_LETTERS = {"MGH": "A", "WFU": "BC", "ISMD": "D"}
"""DDSM volumes of each hospital (Heath et al. 2001, Proc. 5th Int. Workshop on Digital Mammography)."""
MALIGNANT_SHARE = 0.41
"""Share of patients whose first lesion is malignant."""
MASS_SHARES = {1: 0.56, 0: 0.46}
"""Share of masses among malignant (1) and benign (0) lesions, where both types are equally many."""
NO_CALLBACK_SHARES = {LesionType.MASS: 0.15, LesionType.CALCIFICATION: 0.45}
"""Share of ``BENIGN_WITHOUT_CALLBACK`` among benign lesions."""
TEST_SHARE = 0.35
"""Share of the official test split; CBIS-DDSM has 0.2, the larger share narrows the interval of the AUC."""
SINGLE_VIEW_SHARE = 0.25
"""Share of lesions that are marked on one view only; the others are on CC and MLO."""
SECOND_LESION_SHARE = 0.1
"""Share of patients with two lesions."""
BOTH_SPLITS_SHARE = 0.02
"""Share of patients in train of one lesion type and in test of the other; 31 of 1,566 in CBIS-DDSM."""
DENSITY_ZERO_SHARE = 0.01
"""Share of lesions whose table row gives the density as 0."""
EMPTY_SHARE = 0.01
"""Share of masses with an empty cell for shape, and of as many for margins; beside the cells that read ``NA``."""
JOINED_SHARE = 0.02
"""Share of masses called ``ROUND-OVAL`` or ``OVAL-ROUND``."""
AGGRESSIVENESS_SEPARATION = 1.5
"""Distance between the classes' means of ``Lesion.aggressiveness`` in standard deviations: AUC 0.86 if it were seen."""

DESCRIPTORS: dict[LesionType, dict[Pathology, Mapping[str, float]]] = {
    LesionType.MASS: {
        Pathology.MALIGNANT: {
            "IRREGULAR SPICULATED": 0.263,
            "IRREGULAR ILL_DEFINED": 0.145,
            "LOBULATED MICROLOBULATED": 0.043,
            "LOBULATED ILL_DEFINED": 0.041,
            "ARCHITECTURAL_DISTORTION SPICULATED": 0.041,
            "OVAL ILL_DEFINED": 0.036,
            "OVAL MICROLOBULATED": 0.036,
            "IRREGULAR-ARCHITECTURAL_DISTORTION SPICULATED": 0.034,
            "OVAL SPICULATED": 0.032,
            "LOBULATED CIRCUMSCRIBED": 0.031,
            "ROUND SPICULATED": 0.026,
            "ROUND ILL_DEFINED": 0.022,
            "IRREGULAR MICROLOBULATED": 0.018,
            "ARCHITECTURAL_DISTORTION ILL_DEFINED": 0.018,
            "LOBULATED CIRCUMSCRIBED-ILL_DEFINED": 0.015,
            "OVAL OBSCURED": 0.014,
            "IRREGULAR ILL_DEFINED-SPICULATED": 0.013,
            "IRREGULAR OBSCURED-ILL_DEFINED": 0.013,
            "OVAL CIRCUMSCRIBED": 0.013,
            "LOBULATED OBSCURED": 0.013,
            "IRREGULAR-ARCHITECTURAL_DISTORTION ILL_DEFINED-SPICULATED": 0.013,
            "ARCHITECTURAL_DISTORTION NA": 0.011,
            "ROUND CIRCUMSCRIBED": 0.011,
            "LOBULATED SPICULATED": 0.010,
            "ASYMMETRIC_BREAST_TISSUE ILL_DEFINED": 0.010,
        },
        Pathology.BENIGN: {
            "LOBULATED CIRCUMSCRIBED": 0.156,
            "OVAL CIRCUMSCRIBED": 0.153,
            "OVAL OBSCURED": 0.130,
            "LOBULATED OBSCURED": 0.088,
            "ROUND CIRCUMSCRIBED": 0.071,
            "IRREGULAR ILL_DEFINED": 0.064,
            "OVAL ILL_DEFINED": 0.042,
            "ROUND OBSCURED": 0.040,
            "LOBULATED ILL_DEFINED": 0.030,
            "OVAL MICROLOBULATED": 0.022,
            "LOBULATED MICROLOBULATED": 0.022,
            "ARCHITECTURAL_DISTORTION SPICULATED": 0.017,
            "IRREGULAR OBSCURED": 0.016,
            "OVAL CIRCUMSCRIBED-OBSCURED": 0.014,
            "IRREGULAR SPICULATED": 0.014,
            "LOBULATED CIRCUMSCRIBED-ILL_DEFINED": 0.013,
            "ARCHITECTURAL_DISTORTION ILL_DEFINED": 0.012,
            "ROUND ILL_DEFINED": 0.012,
        },
        Pathology.BENIGN_WITHOUT_CALLBACK: {
            "LYMPH_NODE CIRCUMSCRIBED": 0.149,
            "LYMPH_NODE NA": 0.092,
            "ASYMMETRIC_BREAST_TISSUE NA": 0.085,
            "OVAL CIRCUMSCRIBED": 0.071,
            "IRREGULAR SPICULATED": 0.071,
            "FOCAL_ASYMMETRIC_DENSITY NA": 0.071,
            "LOBULATED CIRCUMSCRIBED": 0.050,
            "ROUND CIRCUMSCRIBED": 0.043,
            "OVAL-LYMPH_NODE CIRCUMSCRIBED": 0.043,
            "ARCHITECTURAL_DISTORTION NA": 0.043,
            "OVAL ILL_DEFINED": 0.035,
            "LOBULATED-LYMPH_NODE CIRCUMSCRIBED": 0.028,
            "ARCHITECTURAL_DISTORTION ILL_DEFINED": 0.028,
            "OVAL OBSCURED": 0.028,
            "ARCHITECTURAL_DISTORTION SPICULATED": 0.028,
            "ROUND MICROLOBULATED": 0.021,
            "LOBULATED MICROLOBULATED": 0.021,
            "ASYMMETRIC_BREAST_TISSUE ILL_DEFINED": 0.014,
            "LOBULATED OBSCURED": 0.014,
            "OVAL MICROLOBULATED": 0.014,
        },
    },
    LesionType.CALCIFICATION: {
        Pathology.MALIGNANT: {
            "PLEOMORPHIC CLUSTERED": 0.403,
            "PLEOMORPHIC SEGMENTAL": 0.113,
            "PLEOMORPHIC LINEAR": 0.064,
            "AMORPHOUS CLUSTERED": 0.062,
            "FINE_LINEAR_BRANCHING LINEAR": 0.039,
            "PLEOMORPHIC REGIONAL": 0.039,
            "PUNCTATE CLUSTERED": 0.037,
            "FINE_LINEAR_BRANCHING CLUSTERED": 0.036,
            "FINE_LINEAR_BRANCHING SEGMENTAL": 0.022,
            "PUNCTATE-PLEOMORPHIC CLUSTERED": 0.019,
            "FINE_LINEAR_BRANCHING CLUSTERED-LINEAR": 0.016,
            "AMORPHOUS SEGMENTAL": 0.016,
            "PLEOMORPHIC-FINE_LINEAR_BRANCHING SEGMENTAL": 0.012,
        },
        Pathology.BENIGN: {
            "PLEOMORPHIC CLUSTERED": 0.483,
            "AMORPHOUS CLUSTERED": 0.128,
            "PUNCTATE CLUSTERED": 0.067,
            "PLEOMORPHIC SEGMENTAL": 0.055,
            "AMORPHOUS SEGMENTAL": 0.036,
            "PUNCTATE-PLEOMORPHIC CLUSTERED": 0.024,
            "PUNCTATE SEGMENTAL": 0.023,
            "DYSTROPHIC CLUSTERED": 0.018,
            "FINE_LINEAR_BRANCHING LINEAR": 0.014,
            "ROUND_AND_REGULAR-PLEOMORPHIC CLUSTERED": 0.012,
            "PLEOMORPHIC LINEAR": 0.011,
            "ROUND_AND_REGULAR CLUSTERED": 0.011,
        },
        Pathology.BENIGN_WITHOUT_CALLBACK: {
            "LUCENT_CENTER NA": 0.203,
            "VASCULAR NA": 0.153,
            "COARSE NA": 0.067,
            "ROUND_AND_REGULAR-LUCENT_CENTER NA": 0.057,
            "PUNCTATE NA": 0.048,
            "ROUND_AND_REGULAR-LUCENT_CENTER-PUNCTATE DIFFUSELY_SCATTERED": 0.044,
            "ROUND_AND_REGULAR-EGGSHELL NA": 0.043,
            "ROUND_AND_REGULAR NA": 0.031,
            "LUCENT_CENTERED NA": 0.031,
            "NA REGIONAL": 0.030,
            "ROUND_AND_REGULAR-LUCENT_CENTERED NA": 0.026,
            "LARGE_RODLIKE-ROUND_AND_REGULAR REGIONAL": 0.020,
            "EGGSHELL NA": 0.020,
            "COARSE-ROUND_AND_REGULAR-LUCENT_CENTER NA": 0.018,
            "VASCULAR-COARSE-LUCENT_CENTERED NA": 0.015,
            "PLEOMORPHIC CLUSTERED": 0.015,
            "LUCENT_CENTER-PUNCTATE NA": 0.015,
            "VASCULAR LINEAR": 0.013,
            "DYSTROPHIC CLUSTERED": 0.011,
            "VASCULAR-COARSE NA": 0.011,
            "COARSE-LUCENT_CENTER NA": 0.011,
        },
    },
}
"""Shares of the pairs (shape, margins) or (type, distribution), separated by a space, that make up at least 1 % of the
rows; rarer pairs are left out."""

GRADES: dict[LesionType, dict[Pathology, dict[str, tuple[float, ...]]]] = {
    LesionType.MASS: {
        Pathology.MALIGNANT: {
            "density": (0.20, 0.46, 0.26, 0.08),
            "subtlety": (0.04, 0.10, 0.16, 0.23, 0.47),
            "assessment": (0.03, 0.0, 0.0, 0.06, 0.45, 0.46),
        },
        Pathology.BENIGN: {
            "density": (0.16, 0.44, 0.29, 0.11),
            "subtlety": (0.03, 0.07, 0.26, 0.30, 0.34),
            "assessment": (0.18, 0.0, 0.04, 0.32, 0.45, 0.01),
        },
        Pathology.BENIGN_WITHOUT_CALLBACK: {
            "density": (0.36, 0.43, 0.17, 0.04),
            "subtlety": (0.01, 0.04, 0.23, 0.34, 0.38),
            "assessment": (0.0, 0.0, 0.42, 0.48, 0.09, 0.01),
        },
    },
    LesionType.CALCIFICATION: {
        Pathology.MALIGNANT: {
            "density": (0.07, 0.31, 0.38, 0.24),
            "subtlety": (0.09, 0.19, 0.31, 0.21, 0.20),
            "assessment": (0.05, 0.0, 0.0, 0.08, 0.58, 0.29),
        },
        Pathology.BENIGN: {
            "density": (0.07, 0.32, 0.31, 0.30),
            "subtlety": (0.09, 0.26, 0.31, 0.21, 0.13),
            "assessment": (0.06, 0.0, 0.03, 0.09, 0.82, 0.0),
        },
        Pathology.BENIGN_WITHOUT_CALLBACK: {
            "density": (0.20, 0.36, 0.36, 0.08),
            "subtlety": (0.0, 0.0, 0.35, 0.27, 0.38),
            "assessment": (0.0, 0.0, 0.98, 0.01, 0.01, 0.0),
        },
    },
}
"""Shares of each value: density 1 to 4, subtlety 1 to 5, assessment 0 to 5."""
