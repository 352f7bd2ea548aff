"""Accounting of differential privacy, and score histograms with noise."""
