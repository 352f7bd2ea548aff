"""``fedmammo rehearse``."""

import typer

from simulations.commands.flags import Overrides


def rehearse(overrides: Overrides = None) -> None:
    """Run a whole federation as processes of this machine, over TLS.

    Certificates and kits are made, one coordinator and one process per hospital start, a run is submitted and
    followed, and everything is stopped. The patients are synthetic, or those of data.root dealt to the hospitals; the
    hospitals' policies are open, since nobody's real limits are at stake. KEY=VALUE changes the configuration;
    fedmammo simulate --help names the keys.
    """
    from rich.console import Console

    from shared_model.system.terminal import on_interrupt
    from simulations.federation import rehearsal

    with on_interrupt("interrupted; all processes were stopped"):
        status = rehearsal.rehearse(overrides or (), Console())
    raise typer.Exit(status)
