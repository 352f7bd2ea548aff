"""Figures of merit: counts that add over sites, ranking, calibration, intervals."""
