"""Why the network scored a lesion as it did, and whether the maps can be trusted."""
