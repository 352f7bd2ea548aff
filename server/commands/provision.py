"""``fedmammo server provision``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

_NAMES = "NAME,..."


def provision(
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="New or empty folder; for changes the one of the kits.")],
    sites: Annotated[str | None, typer.Option(metavar=_NAMES, help="Make kits for these hospitals.")] = None,
    add: Annotated[str | None, typer.Option(metavar=_NAMES, help="More hospitals for existing kits.")] = None,
    revoke: Annotated[str | None, typer.Option(metavar=_NAMES, help="Hospitals that leave.")] = None,
    renew: Annotated[str | None, typer.Option(metavar=_NAMES, help="Hospitals that need a new key.")] = None,
    renew_certificate: Annotated[
        bool, typer.Option("--renew-certificate", help="New key and certificate of the server.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="HOST,...",
            help="Names and addresses of this server; kits are told the first. [default: localhost]",
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port at which the hospitals reach it. [default: 9092]")] = None,
    valid_days: Annotated[int | None, typer.Option(help="Validity of the server's certificate. [default: 365]")] = None,
) -> None:
    """Make certificates, keys and a start-up kit for every hospital, or change kits that exist.

    One of --sites, --add, --revoke, --renew and --renew-certificate says what to do. Only --renew-certificate needs
    ca/ca.key. A change counts once fedmammo server start is started again. Where the server's kit is on another
    machine, copy its server.yaml and sites/*.pub back into FOLDER/server before, and what the command names there
    after. FEDMAMMO_CA_KEY_PASSPHRASE and FEDMAMMO_SERVER_KEY_PASSPHRASE in the environment encrypt ca.key and
    server.key.
    """
    given = {
        "--sites": sites,
        "--add": add,
        "--revoke": revoke,
        "--renew": renew,
        "--renew-certificate": renew_certificate or None,
    }
    action = _only_one(given)
    _refuse(action, {"--host": host, "--port": port, "--valid-days": valid_days})
    names = _listed(str(given[action]))
    days = 365 if valid_days is None else valid_days
    if action == "--sites":
        _make(out, names, _listed(host or "localhost"), port=9092 if port is None else port, valid_days=days)
    elif action == "--renew-certificate":
        _renew_certificate(out, None if host is None else _listed(host), days)
    else:
        _change_sites(out, action, names)


def _only_one(given: Mapping[str, object]) -> str:
    """Return the flag that says what to do."""
    actions = [flag for flag, value in given.items() if value is not None]
    if len(actions) != 1:
        raise typer.BadParameter(f"Expected one of {', '.join(given)}, got {' and '.join(actions) or 'none'}.")
    return actions[0]


def _refuse(action: str, values: Mapping[str, object]) -> None:
    """Refuse values that would have no effect."""
    used = {"--sites": {"--host", "--port", "--valid-days"}, "--renew-certificate": {"--host", "--valid-days"}}
    idle = [flag for flag, value in values.items() if value is not None and flag not in used.get(action, ())]
    if idle:
        raise typer.BadParameter(f"Expected {action} without {' and '.join(idle)}: it changes none of that.")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _make(out: Path, sites: list[str], hosts: list[str], *, port: int, valid_days: int) -> None:
    from server.deployment import provision as kits
    from server.deployment.bundle import bundle_digest

    digest = bundle_digest()
    kits.provision(out=out, sites=sites, hosts=hosts, port=port, valid_days=valid_days, approved_bundles=[digest])
    _say(f"Kits in {out}: keep ca/ offline, run the server from server/, send each site its own.")
    _say(f"Sites will answer application bundle {digest}.")


def _change_sites(out: Path, action: str, sites: list[str]) -> None:
    from server.deployment import kit_changes

    named, changed = ", ".join(sites), "server.yaml and sites/*.pub"
    if action == "--add":
        settings = kit_changes.add_sites(out, sites)
        for site in sites:
            _say(f"Send {out / 'sites' / site} to {site} by a safe way: it holds a private key.")
        _say_bundle(settings.bundle)
    elif action == "--revoke":
        kit_changes.revoke_sites(out, sites)
        _say(f"{named} will be removed from the federation; there is nothing to send.")
        changed = f"server.yaml there, and remove {', '.join(f'sites/{site}.pub' for site in sites)}"
    else:
        kit_changes.renew_sites(out, sites)
        for site in sites:
            _say(
                f"Send node.key and node.pub of {out / 'sites' / site} to {site} by a safe way: they take the place of "
                "those there, and all else stays."
            )
        changed = ", ".join(f"sites/{site}.pub" for site in sites)
    _say_start(changed)


def _renew_certificate(out: Path, hosts: list[str] | None, valid_days: int) -> None:
    from server.deployment import kit_changes

    settings = kit_changes.renew_certificate(out, hosts=hosts, valid_days=valid_days)
    _say(f"A new certificate for {', '.join(settings.hosts)}: there is nothing to send, hospitals trust its authority.")
    if hosts is not None:
        _say(f"Kits to come are told {settings.address}; who had another address changes server in its site.yaml.")
    _say_start("server.key, server.pem and server.yaml")


def _say_bundle(approved: str | None) -> None:
    from server.deployment.bundle import bundle_digest

    installed = bundle_digest()
    if approved == installed:
        _say(f"It answers application bundle {approved}, as the others do.")
    else:
        _say(
            f"It answers application bundle {approved or '(none)'}, as server.yaml says; installed here is {installed}."
        )


def _say_start(changed: str) -> None:
    _say(f"Then start fedmammo server start again; if the server's kit is elsewhere, first copy {changed}.")


def _say(line: str) -> None:
    from rich.console import Console

    Console(soft_wrap=True, highlight=False, markup=False).print(line)
