"""The sites of a run and their keys: one signed list, which every site checks by the identities that it has pinned."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shared_model.errors import ProtocolError
from shared_model.secure_sum.fields import KEY_BYTES, SIGNATURE_BYTES, require_bytes, require_count, require_site
from shared_model.secure_sum.identity import Identity, require_secret, require_signed, statement
from shared_model.secure_sum.key_agreement import private_key, require_public_key

MOST_SITES = 1000
"""A longer list is refused before any signature of it is verified."""
MOST_PATIENTS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Advert:
    """What a site says of itself at the begin of a run.

    Raises:
        ProtocolError: a field is malformed.
    """

    site: str
    identity: bytes
    """Its public key for signatures, 32 bytes."""
    num_patients: int
    """As its policy declares them, at least 1."""
    run_key: bytes
    """Its public X25519 key of this run, 32 bytes; what partners send it through the coordinator is sealed with it."""
    signature: bytes
    """By ``identity``, over the run and all of the above."""

    def __post_init__(self) -> None:
        require_site(self.site)
        require_bytes(self.identity, KEY_BYTES, "an identity")
        require_count(self.num_patients, 1, MOST_PATIENTS, "a number of patients")
        require_bytes(self.run_key, KEY_BYTES, "a run key")
        require_bytes(self.signature, SIGNATURE_BYTES, "an advert's signature")


def advertise(identity: Identity, *, run: str, site: str, num_patients: int, secret: bytes) -> Advert:
    """Return the signed advert of ``site``; the same whenever it is asked for.

    Args:
        identity: of the site.
        run: the run's fingerprint.
        site: its name.
        num_patients: as the policy declares them.
        secret: the site's, 32 bytes.

    Raises:
        ProtocolError: ``site`` or ``num_patients`` is none.
        ValueError: ``secret`` has not 32 bytes.
    """
    run_key = run_private_key(secret, run).public_key().public_bytes_raw()
    signature = identity.sign(_advert_statement(run, site, num_patients, run_key))
    return Advert(site=site, identity=identity.public, num_patients=num_patients, run_key=run_key, signature=signature)


def run_private_key(secret: bytes, run: str) -> X25519PrivateKey:
    """Return the site's private key of ``run``; nothing of it is stored.

    Raises:
        ValueError: ``secret`` has not 32 bytes.
    """
    require_secret(secret)
    return private_key(secret, statement("run key", run))


@dataclass(frozen=True, kw_only=True)
class Roster:
    """The adverts of a run, sorted by site: signed by those whom they name, no site, identity or key twice.

    Raises:
        ProtocolError: they are not.
    """

    run: str
    adverts: tuple[Advert, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.adverts) <= MOST_SITES:
            raise ProtocolError(f"Expected a roster of 2 to {MOST_SITES} sites, got {len(self.adverts)}.")
        if any(first.site >= second.site for first, second in zip(self.adverts, self.adverts[1:], strict=False)):
            raise ProtocolError("Expected a roster sorted by site, and every site once.")
        for name, values in (
            ("site, whatever the case,", {advert.site.casefold() for advert in self.adverts}),
            ("identity", {advert.identity for advert in self.adverts}),
            ("run key", {advert.run_key for advert in self.adverts}),
        ):
            if len(values) != len(self.adverts):
                raise ProtocolError(f"Expected every {name} once in a roster, got one of them twice.")
        for advert in self.adverts:
            require_public_key(advert.run_key)
            content = _advert_statement(self.run, advert.site, advert.num_patients, advert.run_key)
            require_signed(advert.identity, content, advert.signature)

    @classmethod
    def checked(cls, run: str, adverts: Iterable[Advert], *, partners: Mapping[str, bytes] | None) -> Self:
        """Return the roster of ``adverts``, in whatever order they come.

        Args:
            run: the run's fingerprint.
            adverts: as they arrived.
            partners: the identity of every site that may be in it, this one's own among them; None takes the
                identities that come, and then whoever carries the messages can stand in for any site.

        Raises:
            ProtocolError: a signature, a name, an identity or a key is not as it has to be.
        """
        listed = tuple(sorted(adverts, key=lambda advert: advert.site))
        # First, so that a list of strangers costs no signature.
        if partners is not None:
            for advert in listed:
                if partners.get(advert.site) != advert.identity:
                    raise ProtocolError(
                        f"Expected the site {advert.site} with the identity that is pinned for it, got another or one "
                        "that is not pinned: compare it with that site over the telephone, then add it to partners."
                    )
        return cls(run=run, adverts=listed)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(advert.site for advert in self.adverts)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over the run and all adverts: what every later statement of the run names."""
        parts: list[str | bytes | int] = []
        for advert in self.adverts:
            parts += [advert.site, advert.identity, advert.num_patients, advert.run_key]
        return hashlib.sha256(statement("roster", self.run, *parts)).digest()

    @property
    def num_patients(self) -> int:
        """Declared patients of all sites."""
        return sum(advert.num_patients for advert in self.adverts)

    def advert(self, site: str) -> Advert:
        """Return the advert of ``site``.

        Raises:
            ProtocolError: it is not in the roster.
        """
        return self.adverts[self.position(site)]

    def position(self, site: str) -> int:
        """Return the place of ``site`` in the roster, from 0: its place among the shares of a seed.

        Raises:
            ProtocolError: it is not in the roster.
        """
        require_site(site)
        if site not in self.sites:
            raise ProtocolError(f"Expected a site of the roster, got {site}.")
        return self.sites.index(site)

    def require_member(self, site: str, secret: bytes) -> None:
        """Check that ``site``, whose secret this is, stands in the roster with its own identity and key.

        Raises:
            ProtocolError: it does not.
            ValueError: ``secret`` has not 32 bytes.
        """
        advert = self.advert(site)
        own_key = run_private_key(secret, self.run).public_key().public_bytes_raw()
        if (advert.identity, advert.run_key) != (Identity.from_secret(secret).public, own_key):
            raise ProtocolError(f"Expected the roster to hold {site} with its own keys, got the keys of another.")


def threshold(num_sites: int, max_colluding: int) -> int:
    """Return how many sites must take part in opening a sum, floor((num_sites + max_colluding) / 2) + 1.

    Any two sets of so many sites share one that does not collude, and no more than ``max_colluding`` sites do: it
    agrees to one list of survivors a round, so that one sum of a round is ever opened.

    Raises:
        ValueError: not 0 <= ``max_colluding`` < ``num_sites``, or there are fewer than 2 sites.
    """
    if num_sites < 2 or not 0 <= max_colluding < num_sites:
        raise ValueError(
            f"Expected num_sites={num_sites} >= 2 and max_colluding={max_colluding} from 0 to num_sites - 1."
        )
    return (num_sites + max_colluding) // 2 + 1


def _advert_statement(run: str, site: str, num_patients: int, run_key: bytes) -> bytes:
    return statement("advert", run, site, num_patients, run_key)
