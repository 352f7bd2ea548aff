"""Hydra groups: the only place where default values stand."""
