"""What ``fedmammo site init`` writes into a site's policy file, whose comments are the hospital's own and stay."""

import re
from pathlib import Path

from shared_model.system.files import write_atomically

_DECLARED = "declared_patients"
_LINE = re.compile(rf"^{_DECLARED}[ \t]*:[ \t]*(?:null|~|Null|NULL)?(?P<comment>[ \t]*(?:#.*)?)$", re.MULTILINE)


def fill_in_declared_patients(path: Path, num_patients: int) -> None:
    """Write ``declared_patients: num_patients`` where the policy file at ``path`` has null, or no such line at all.

    Raises:
        OSError: the file cannot be written.
        ValueError: it has another value there.
    """
    text = path.read_text(encoding="utf-8")
    changed, count = _LINE.subn(rf"{_DECLARED}: {num_patients}\g<comment>", text, count=1)
    if not count:
        if re.search(rf"^{_DECLARED}[ \t]*:", text, re.MULTILINE):
            raise ValueError(f"Expected {_DECLARED} to be null in {path}.")
        changed = text + ("" if text.endswith("\n") or not text else "\n") + f"{_DECLARED}: {num_patients}\n"
    write_atomically(path, changed.encode())
