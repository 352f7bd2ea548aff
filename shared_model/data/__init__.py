"""Lesions as tensors."""
