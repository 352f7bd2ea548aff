"""What a day did, what was expected and what was seen: a page for people, written line by line as it happens."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console


@dataclass
class Protocol:
    """The page; a day that is killed leaves it as far as it came."""

    path: Path
    console: Console
    num_steps: int = field(default=0, init=False)
    wrong: list[str] = field(default_factory=list, init=False)
    """Steps that did not go as expected."""

    def is_of(self, title: str) -> bool:
        """Return whether an earlier day of this title began to write the page."""
        try:
            return self.path.read_text(encoding="utf-8").startswith(f"# {title}\n")
        except (OSError, UnicodeDecodeError):
            return False

    def begin(self, title: str, *notes: str) -> None:
        """Begin the page anew: of an earlier day there is none in it."""
        self.path.write_text("\n\n".join((f"# {title}", *notes)) + "\n\n", encoding="utf-8")

    def note(self, text: str) -> None:
        """Write what is neither expected nor unexpected."""
        self._write(f"{text}\n\n")

    def step(self, done: str, *, expected: str, seen: str, is_met: bool) -> None:
        """Write one step; what is not met is told at the end too, and the day goes on."""
        self.num_steps += 1
        verdict = "as expected" if is_met else "**not as expected**"
        self._write(f"{self.num_steps}. {done}\n   - expected: {expected}\n   - seen: {seen}: {verdict}\n")
        self.console.print(f"{'ok   ' if is_met else 'WRONG'} {done}: {seen}", markup=False, highlight=False)
        if not is_met:
            self.wrong.append(done)

    def end(self) -> bool:
        """Write the sum; return whether every step went as expected."""
        is_good = not self.wrong and self.num_steps > 0
        what = "all as expected" if is_good else f"{len(self.wrong)} not as expected: {'; '.join(self.wrong)}"
        self._write(f"\n{self.num_steps} steps, {what}.\n")
        return is_good

    def _write(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
