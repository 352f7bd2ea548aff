"""A synthetic CBIS-DDSM."""
