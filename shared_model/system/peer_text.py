"""Text that a peer may have chosen, made fit for logs, terminals, results and pages."""

MAX_CHARACTERS = 200
"""As long as a reason of ours is, names and numbers included."""


def peer_text(text: str, most: int = MAX_CHARACTERS) -> str:
    r"""Return ``text`` as one printable line of at most ``most`` characters.

    What does not print (control characters, escape sequences, marks that turn the direction of writing) becomes a
    blank, and runs of blanks one. It may still hold what looks like markup: who prints it says ``markup=False``, and
    pages escape it.

    >>> peer_text("red: \x1b[31m[bold]\n\n<b>", most=20)
    'red: [31m[bold] <b>'
    >>> peer_text("a" * 9, most=5)
    'aaaa…'
    """
    # Blanks may shrink, so a little more than what is kept is looked at; never all of a text of 10^7 characters.
    seen = text[: 4 * most]
    line = " ".join("".join(character if character.isprintable() else " " for character in seen).split())
    return line if len(line) <= most and len(text) <= len(seen) else f"{line[: most - 1].rstrip()}…"
