"""What a run found, as one checked document."""
