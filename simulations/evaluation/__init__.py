"""The final network of a finished run on other lesions than its own, at this machine."""
