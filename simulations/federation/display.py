"""What a person sees of a simulation: how its data are prepared, and then what the server of any run shows."""

from client.data.splits import Role
from client.data.tables.table_notes import notes
from server.report.run_display import RunDisplay
from shared_model.config.constants_rule import constants_advice
from simulations.federation.prepare import PreparedFederation


class SimulationDisplay(RunDisplay):
    """A live view on a terminal; plain lines where the output is no terminal."""

    def on_prepared(self, prepared: PreparedFederation) -> None:
        """Show how many patients and lesions the data have in each role, and how many rows were left out."""
        counts = ", ".join(
            f"{role} {prepared.num_patients[role]} patients / {prepared.num_lesions[role]} lesions" for role in Role
        )
        self.print_line(f"data         {counts}")
        table = prepared.table
        if prepared.images is not None:
            self.print_line(f"images       {prepared.images}")
        self.print_line(
            f"             {len(table.rejects)} rows rejected, {len(table.excluded)} excluded as their patient is in a "
            "test split"
        )
        for note in notes(table):
            self.print_line(f"             {note}")
        advice = constants_advice(prepared.config, prepared.num_declared)
        if advice is not None:
            self.print_line(advice)
