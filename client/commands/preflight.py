"""``fedmammo site preflight``."""

from client.commands.flags import HERE, SitePath


def preflight(site: SitePath = HERE) -> None:
    """Check everything that this hospital's process needs, and say what to do where something is wrong."""
    from rich.console import Console

    from client.deployment import preflight as checking
    from client.deployment.checks import may_start
    from client.deployment.preflight_table import print_checks
    from client.deployment.site_file import SiteFile
    from shared_model.errors import ConfigError

    checks = checking.preflight(SiteFile.load(site))
    print_checks(checks, Console())
    if not may_start(checks):
        raise ConfigError("Expected every check to pass before the site takes part; do what the table says.")
