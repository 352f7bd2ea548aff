"""Whether a hospital's images look like mammograms: some of them are looked at before a start, and only here."""

from collections.abc import Sequence

from client.data.grey_levels import FAINT, grey_levels, is_faint
from client.data.images import LesionFiles, image_paths_used, load_lesion
from client.data.network_inputs import lesion_files
from client.data.preprocessing import Float32Array
from client.deployment.checks import Doubt
from client.deployment.own_patients import own_config, own_table
from client.deployment.site_file import SiteFile
from client.privacy.policy import SitePolicy
from client.site import SiteSettings
from shared_model.config.choices import Modality, Normalisation
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import DicomError

_NUM_IMAGES = 48


def check_grey_levels(site: SiteFile) -> str:
    """Look at the grey levels of some images, the same ones each time, as a network would see them.

    Raises:
        Doubt: more than half of them look negative, or some use few of their levels.
        ConfigError, TableError: the tables cannot be read.
    """
    settings = SiteSettings.from_node_config(site.node_config, own_config(site, SitePolicy.load(site.policy)))
    config = settings.config
    if config.model.modality is Modality.CLINICAL:
        return "none needed"
    image = config.data.image
    lesions = lesion_files(own_table(settings).frame, config)
    files = [lesion for lesion in lesions if image_paths_used(lesion, image.mode)]
    pictures = _pictures(_spread(files), image)
    num_negative = sum(grey_levels(picture, image.mode).looks_negative for picture in pictures)
    if 2 * num_negative > len(pictures):
        raise Doubt(
            f"{num_negative} of {len(pictures)} sampled images look negative: tissue is darker than what surrounds it"
        )
    num_faint = sum(map(is_faint, pictures)) if image.normalisation is Normalisation.FULL_RANGE else 0
    if num_faint:
        raise Doubt(f"{num_faint} of {len(pictures)} sampled images {FAINT}")
    return f"{len(pictures)} images looked at, {num_negative} of them darker inside than outside"


def _pictures(lesions: Sequence[LesionFiles], image: ImageConfig) -> list[Float32Array]:
    """Return what the network sees of those lesions that can be read; what cannot is the images' check to say."""
    pictures = []
    for lesion in lesions:
        try:
            pictures.append(load_lesion(lesion, image))
        except DicomError:
            continue
    return pictures


def _spread(lesions: Sequence[LesionFiles]) -> list[LesionFiles]:
    step = max(1, len(lesions) // _NUM_IMAGES)
    return list(lesions[::step][:_NUM_IMAGES])
