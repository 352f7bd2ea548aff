"""The real CBIS-DDSM, which stands beside the repository on some machines and is no part of it."""

from pathlib import Path

import pytest

CBIS_DDSM = Path(__file__).resolve().parents[2] / "shared" / "data" / "CBIS-DDSM"
needs_cbis_ddsm = pytest.mark.skipif(not CBIS_DDSM.is_dir(), reason="the real data are not at ../shared/data/CBIS-DDSM")
