"""Attacks on what a hospital sends."""
