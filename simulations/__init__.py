"""Whole federations on one machine: synthetic data, partitions, in-process runs."""
