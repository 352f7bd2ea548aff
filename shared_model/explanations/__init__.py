"""Why a network scored a lesion as it did: pure functions of networks and tensors."""
