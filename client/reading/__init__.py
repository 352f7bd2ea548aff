"""The reader: one lesion of this hospital, read with a release, or refused with the reason."""
