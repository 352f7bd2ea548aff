"""Whether a hospital's images look like mammograms: some of them are looked at before a start, and only here."""

from client.data.grey_sample import GreySample
from client.data.network_inputs import lesion_files
from client.deployment.checks import Doubt
from client.deployment.own_patients import own_config, own_table
from client.deployment.site_file import SiteFile
from client.privacy.policy import SitePolicy
from client.site import SiteSettings
from shared_model.config.choices import Modality


def check_grey_levels(site: SiteFile) -> str:
    """Look at the grey levels of some images, the same ones each time, as a network would see them.

    Raises:
        Doubt: they look negative, are unlike the masses that they are compared with, or some use few of their levels.
        ConfigError, TableError: the tables cannot be read.
    """
    settings = SiteSettings.from_node_config(site.node_config, own_config(site, SitePolicy.load(site.policy)))
    config = settings.config
    if config.model.modality is Modality.CLINICAL:
        return "none needed"
    sample = GreySample.of(lesion_files(own_table(settings).frame, config), config.data.image)
    if sample.doubts:
        raise Doubt("; ".join(sample.doubts))
    return str(sample)
