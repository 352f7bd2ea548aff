"""A hospital's patients as it sees them itself: by its own settings and policy, with no request to answer."""

from client.data.splits import Role
from client.deployment.site_file import SiteFile
from client.privacy.ledger import Ledger
from client.privacy.policy import SitePolicy
from client.site import Site, SiteData, SiteSettings
from shared_model.config.choices import Modality
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError

_MODALITY = "model.modality"


def own_config(site: SiteFile, policy: SitePolicy) -> ExperimentConfig:
    """Return a configuration with lesion types, views and modality of the policy; elsewhere the default values stand.

    Raises:
        ConfigError: the federation could not have a site of this name, or the site's file names other lesion types.
    """
    _require_agreement(site, policy)
    fixed = [] if policy.views is None else [f"data.views={policy.views}"]
    if policy.lesion_types is not None:
        fixed.append(f"data.lesion_types=[{','.join(policy.lesion_types)}]")
    if policy.fields.get(_MODALITY) == (str(Modality.CLINICAL),):
        fixed += [f"{_MODALITY}={Modality.CLINICAL}", "model.image_components=0"]
    return compose([f"federation.sites=[{site.site}]", "federation.min_sites=1", *fixed])


def _require_agreement(site: SiteFile, policy: SitePolicy) -> None:
    if site.lesion_types is not None and set(site.lesion_types) != set(policy.lesion_types or ()):
        in_policy = "null" if policy.lesion_types is None else f"[{', '.join(policy.lesion_types)}]"
        raise ConfigError(
            f"Expected lesion_types: [{', '.join(site.lesion_types)}] of the site file to be those of {site.policy}, "
            f"got {in_policy}: requests are held to the policy; write the same in both, as agreed with the coordinator."
        )


def own_data(site: SiteFile, policy: SitePolicy, ledger: Ledger) -> SiteData:
    """Read the site's tables and return its patients with the roles that they have in every request.

    Raises:
        ConfigError, TableError: a file cannot be read.
    """
    settings = SiteSettings.from_node_config(site.node_config, own_config(site, policy))
    return Site(settings=settings, policy=policy, ledger=ledger).data


def num_training(data: SiteData) -> int:
    """Return how many patients the site trains on."""
    return len(data.patients(Role.TRAIN))


def remember_spellings(site: SiteFile) -> None:
    """Let the ledger remember how today's patients are spelt, the new ones among them.

    Raises:
        ConfigError, TableError: a file cannot be read.
        LedgerError: the ledger was changed, is damaged or cannot be written.
    """
    ledger = Ledger(site.ledger)
    ledger.remember_spellings(own_data(site, SitePolicy.load(site.policy), ledger).patients(*Role))
