"""``fedmammo server status``."""

from server.commands.flags import HERE, KitPath


def status(kit: KitPath = HERE) -> None:
    """Say which hospitals are there, and how far each run has come."""
    from rich.console import Console
    from rich.table import Table

    from server.deployment.federation_status import read_status
    from server.deployment.kit import ServerKit
    from server.report.printed_numbers import MISSING, format_number

    found, console = read_status(ServerKit.load(kit)), Console()
    sites = Table("site", "connection", title="Sites")
    for site, connection in found.sites.items():
        sites.add_row(site, connection)
    console.print(sites)
    runs = Table("run", "submitted", "state", "round", "sites", "epsilon", title="Runs")
    for each in found.runs:
        progress = each.progress
        cells = (MISSING,) * 3
        if progress is not None:
            rounds = "" if progress.num_rounds is None else f" of {progress.num_rounds}"
            sites_in = MISSING if progress.num_sites is None else str(progress.num_sites)
            cells = (f"{progress.server_round}{rounds}", sites_in, format_number(progress.epsilon, digits=2))
        runs.add_row(each.run.run_id, each.run.submitted[:16].replace("T", " "), each.run.status, *cells)
    console.print(runs)
    for each in found.runs:
        details = f": {each.run.details}" if each.run.details else ""
        console.print(
            f"{each.run.run_id} in {MISSING if each.folder is None else each.folder}{details}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
