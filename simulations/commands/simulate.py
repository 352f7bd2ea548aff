"""``fedmammo simulate``."""

import typer

from simulations.commands.flags import Overrides

_INTERRUPTED = "interrupted; what is cached stays cached, so the next run continues from there"


def simulate(overrides: Overrides = None) -> None:
    """Train the fusion network over simulated hospitals and evaluate it.

    KEY=VALUE changes the configuration. Keys are, among others, and all stand in the folder configs:

    \b
      preset=smoke|phantom|cbis_mass|few_patients   what to run; phantom is the default
      data.root=PATH                   CBIS-DDSM folder, for preset=cbis_mass
      data.features=safe|descriptors|reader
      model.modality=image|clinical|fusion   model.fusion=early|mid|late
      privacy=patient|off   privacy.target_epsilon=8   training.num_rounds=20
      strategy=fedavg|fedavgm|fedadam|fedprox|one_shot   federation=local|ray
      seed=0   run.dir=PATH
    """  # noqa: D301, a backspace keeps typer from joining the lines
    from shared_model.system.imports import collector_at_rest

    with collector_at_rest():
        import torch
        from rich.console import Console

        from server.report.html_report import REPORT_FILE
        from server.report.run_display import print_results
        from shared_model.config import compose
        from shared_model.system.terminal import log_to_stderr, on_interrupt
        from simulations.federation import simulation

    log_to_stderr()
    # Images and sites are worked on side by side; more threads inside each only compete for the same cores.
    torch.set_num_threads(1)
    config, console = compose(overrides or ()), Console()
    with on_interrupt(_INTERRUPTED):
        results = simulation.simulate(config, console)
    print_results(results, config, console)
    typer.echo(f"Report in {config.run.dir}/{REPORT_FILE}")
    typer.echo(f"Privacy reports in {config.run.dir}/privacy")
