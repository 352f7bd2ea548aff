"""``fedmammo site fingerprint``."""

import typer


def fingerprint() -> None:
    """Print the fingerprint of the source code installed here, by which a hospital's policy can approve it."""
    from shared_model.config.fingerprints import source_fingerprint

    typer.echo(source_fingerprint())
