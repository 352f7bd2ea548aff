"""Differentially private training on the site's patients."""
