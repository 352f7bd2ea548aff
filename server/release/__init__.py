"""A finished run made into a release: what is calibrated, what is written, who signs it."""
