"""Files, processes, terminal, seeds and the audit log."""
