"""``fedmammo site identity``."""

from client.commands.flags import HERE, SitePath

_GROUP_DIGITS, _GROUPS_A_LINE = 4, 4


def identity(site: SitePath = HERE) -> None:
    """Print this hospital's identity in secure sums, for the policies of its partners; it is no secret."""
    from rich.console import Console

    from client.deployment.ledger_identity import open_own_ledger
    from client.deployment.site_file import SiteFile
    from shared_model.secure_sum.identity import Identity

    settings = SiteFile.load(site)
    digits = Identity.from_secret(open_own_ledger(settings).identity_secret).public.hex()
    Console(highlight=False, soft_wrap=True).print(
        f"Identity of {settings.site}, made of the key of its ledger:\n\n{in_groups(digits)}\n\n"
        "Send the last line to every partner, who writes it under partners in policy.yaml. Then ring each of them up, "
        "at a number that came with no such message, and let them read their copy to you: all 64 digits must agree.\n\n"
        f"  {settings.site}: {digits}",
        markup=False,
    )


def in_groups(digits: str) -> str:
    """Return ``digits`` in groups of four, four groups a line, as people read them to each other.

    >>> in_groups("0123456789abcdef" * 2).splitlines()
    ['  0123 4567 89ab cdef', '  0123 4567 89ab cdef']
    """
    groups = [digits[start : start + _GROUP_DIGITS] for start in range(0, len(digits), _GROUP_DIGITS)]
    lines = [groups[start : start + _GROUPS_A_LINE] for start in range(0, len(groups), _GROUPS_A_LINE)]
    return "\n".join(f"  {' '.join(line)}" for line in lines)
