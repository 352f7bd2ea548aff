"""Lesions as tensors, and the preprocessing of their images."""
