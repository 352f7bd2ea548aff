"""What others published on the mass patches of CBIS-DDSM, beside which ours stands."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """An AUC that others published on these patches."""

    method: str
    epsilon: float | None
    auroc: float


SWIN, SWIN_SYNTHETIC = "Swin-T, DP-SGD", "Swin-T, pre-trained on synthetic images"
PUBLISHED = (
    PublishedResult(method=SWIN, epsilon=None, auroc=0.778),
    PublishedResult(method=SWIN, epsilon=60.0, auroc=0.622),
    PublishedResult(method=SWIN, epsilon=6.0, auroc=0.572),
    PublishedResult(method=SWIN, epsilon=1.0, auroc=0.525),
    PublishedResult(method=SWIN_SYNTHETIC, epsilon=60.0, auroc=0.712),
    PublishedResult(method=SWIN_SYNTHETIC, epsilon=6.0, auroc=0.677),
    PublishedResult(method=SWIN_SYNTHETIC, epsilon=1.0, auroc=0.661),
)
"""Osuala et al. 2024, arXiv 2407.12669: image only, one central data set, epsilon per image, delta 1e-4, their test set
has 24 lesions more."""
PUBLISHED_SOURCE = "Osuala et al. 2024 (arXiv 2407.12669): image only, one central data set, epsilon per image"
