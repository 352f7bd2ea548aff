"""Differential privacy: mechanisms, their price, the noise that a price asks for, and noisy score histograms."""
