"""Who this site forms sums with: its own keys, and a request's lists checked against its partners and its own records.

A coordinator chooses what arrives here. It may leave sites out down to the fewest that the run's noise is planned for,
and nothing else: not put others in, not show different lists to different sites, not change a list once it was used.
"""

from client.site import Site
from shared_model.config.fingerprints import config_fingerprint
from shared_model.errors import PolicyError, ProtocolError
from shared_model.messages import Request
from shared_model.messages.sum_parts import SumParts, evaluation_sum_round
from shared_model.secure_sum.identity import Identity
from shared_model.secure_sum.participants import Participants
from shared_model.secure_sum.roster import Advert, Roster, advertise, threshold


def own_identity(site: Site) -> Identity:
    """Return the key by which other sites know this one."""
    return Identity.from_secret(site.ledger.identity_secret)


def own_advert(request: Request, site: Site) -> Advert:
    """Return this site's keys for the run of ``request``: the same whenever it is asked."""
    return advertise(
        own_identity(site),
        run=config_fingerprint(request.config),
        site=site.name,
        num_patients=site.num_declared(),
        secret=site.ledger.identity_secret,
    )


def sum_parts(request: Request) -> SumParts:
    """Return what the request of a secure sum has beside an ordinary one.

    Raises:
        ProtocolError: the run has no secure sums, or the request has no such parts.
    """
    if not request.config.federation.secure_sum:
        raise ProtocolError("Expected no message of a secure sum with federation.secure_sum=false.")
    if request.sum_parts is None:
        raise ProtocolError("Expected the sites' keys in a request with federation.secure_sum=true.")
    return request.sum_parts


def checked_roster(request: Request, site: Site) -> Roster:
    """Return the sites of the run, all of them partners of this one, and this one with its own keys among them.

    Raises:
        ProtocolError: it is not so, they are too few, or the round is none of the run.
        PolicyError: the site's policy names no partners.
    """
    parts, federation, last = sum_parts(request), request.config.federation, evaluation_sum_round(request.config)
    # What costs nothing comes first, and bounds how many signatures are looked at.
    if request.server_round > last:
        raise ProtocolError(f"Expected a round of the run, at most {last}, got {request.server_round}.")
    if not {advert.site for advert in parts.adverts} <= set(federation.sites):
        raise ProtocolError("Expected sites of federation.sites alone in a secure sum.")
    roster = Roster.checked(config_fingerprint(request.config), parts.adverts, partners=_partners(site))
    if len(roster.sites) < federation.min_sites:
        raise ProtocolError(f"Expected at least {federation.min_sites} sites in a secure sum, got {len(roster.sites)}.")
    if site.name not in roster.sites or roster.advert(site.name) != own_advert(request, site):
        raise ProtocolError("Expected this site with its own keys among those of a secure sum.")
    return roster


def checked_participants(request: Request, roster: Roster, site: Site) -> Participants:
    """Return those of ``roster`` who take part in the round, this site among them.

    Raises:
        ProtocolError: an offer was not signed by its site, or they are too few.
    """
    fewest = request.config.federation.min_sites
    offers = sum_parts(request).offers
    participants = Participants.checked(roster, request.server_round, offers, fewest=fewest)
    if site.name not in participants.sites:
        raise ProtocolError("Expected this site among those that take part in a secure sum.")
    return participants


def shares_needed(request: Request, roster: Roster) -> int:
    """Return how many sites must give their shares for a mask to be known: more than half, and the colluding ones."""
    return threshold(len(roster.sites), request.config.federation.max_colluding)


def _partners(site: Site) -> dict[str, bytes] | None:
    partners = site.policy.partners
    if partners is not None:
        pinned = {name: bytes.fromhex(identity) for name, identity in partners.items()}
        # A policy names the others.
        return {**pinned, site.name: own_identity(site).public}
    if site.settings.is_simulated:
        return None
    message = "Expected partners in the site's policy for a secure sum: the identities of the other sites, compared."
    raise PolicyError(message, key="partners")
