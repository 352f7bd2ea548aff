"""The regulatory dossier of a release: intended use, risks, reporting checklists and change plan, each claim cited."""
