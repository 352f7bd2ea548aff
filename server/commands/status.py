"""``fedmammo server status``."""

from server.commands.flags import HERE, KitPath


def status(kit: KitPath = HERE) -> None:
    """Say which hospitals are there, and which runs."""
    from rich.console import Console
    from rich.table import Table

    from server.deployment.control import list_runs, site_statuses
    from server.deployment.kit import ServerKit

    server_kit, console = ServerKit.load(kit), Console()
    sites = Table("site", "status", title="Sites")
    for site, found in site_statuses(server_kit).items():
        sites.add_row(site, found)
    console.print(sites)
    table = Table("run", "status", "submitted", title="Runs")
    for run in list_runs(server_kit):
        table.add_row(run.run_id, run.status, run.submitted)
    console.print(table)
