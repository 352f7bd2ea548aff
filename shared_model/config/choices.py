"""The values that a configuration may choose from."""

from enum import StrEnum


class DataSource(StrEnum):
    """How a site's data stand on disk."""

    CBIS_DDSM = "cbis_ddsm"
    MANIFEST = "manifest"


class ImageMode(StrEnum):
    """What the network sees of a lesion."""

    CROP = "crop"
    """The crop file that the data set ships."""
    ROI = "roi"
    """A crop cut from the whole film round the mask or box, with context."""
    FILM = "film"
    """The whole film."""


class Views(StrEnum):
    """What the network reads of a lesion that shows on several views."""

    OWN = "own"
    """Every view by itself."""
    ALL = "all"
    """The mean over all views of the lesion, of features and clinical entries."""


class Normalisation(StrEnum):
    """How stored values become [0, 1]."""

    FULL_RANGE = "full_range"
    """Divide by the largest value that the stored bits can hold."""
    MIN_MAX = "min_max"
    """Stretch the image's own minimum and maximum."""
    PERCENTILE = "percentile"
    """Stretch the image's 1st and 99th percentile, clipping outside."""


class Denoising(StrEnum):
    """Optional smoothing before contrast enhancement."""

    NONE = "none"
    MEDIAN = "median"
    NON_LOCAL_MEANS = "non_local_means"


class ConstantsFrom(StrEnum):
    """Where the constants come from by which frozen image features are standardised."""

    PUBLIC = "public"
    """From the public lesions; without any, features are used as they are."""
    PRIVATE_MEAN = "private_mean"
    """Sites sum up their training patients' features once, with noise, and the mean direction is projected out."""
    SHIPPED = "shipped"
    """From a file of numbers that public lesions elsewhere gave; see ``shared_model.reference.reference_file``."""


class InitialHead(StrEnum):
    """What the head is before the first round."""

    ZERO = "zero"
    """Logits of zero; hidden layers are drawn from the seed."""
    SHIPPED = "shipped"
    """Trained, without privacy, on the public lesions of the file that the feature constants come from."""


class ThresholdFrom(StrEnum):
    """Whose scores choose the operating threshold, and make scores probabilities."""

    HELD_OUT = "held_out"
    """Patients on whom nothing is trained: the public ones, or else the sites' validation patients."""
    TRAINING = "training"
    """The sites' training patients, whom a histogram counts once, with noise, after the last round."""


class Modality(StrEnum):
    """Which branches of the fusion network exist."""

    IMAGE = "image"
    CLINICAL = "clinical"
    FUSION = "fusion"


class Fusion(StrEnum):
    """Where the image and the clinical branch meet."""

    EARLY = "early"
    MID = "mid"
    LATE = "late"


class Backbone(StrEnum):
    """Image encoder."""

    EFFICIENTNET_LITE0 = "efficientnet_lite0"
    """ImageNet weights, frozen; only the head trains."""
    EFFICIENTNET_LITE1 = "efficientnet_lite1"
    """As Lite0, with five more blocks."""
    SMALL_CNN = "small_cnn"
    RESNET18 = "resnet18"
    DENSENET121 = "densenet121"

    @property
    def is_frozen(self) -> bool:
        """Whether the encoder's features can be computed once and cached."""
        return self in {Backbone.EFFICIENTNET_LITE0, Backbone.EFFICIENTNET_LITE1}


class FeatureEngine(StrEnum):
    """What computes the features of a frozen backbone."""

    TORCH = "torch"
    OPENVINO = "openvino"
    """Two to three times as fast on a processor; needs the extra ``openvino``. Features differ in the sixth digit."""


class Loss(StrEnum):
    """Per-record loss; both are bounded per record, so neither mixes patients."""

    CROSS_ENTROPY = "cross_entropy"
    FOCAL = "focal"


class PrivacyMode(StrEnum):
    """Whose data one step is private for."""

    PATIENT = "patient"
    OFF = "off"


class NoiseSource(StrEnum):
    """Where the privacy noise comes from."""

    SECURE = "secure"
    SEEDED = "seeded"
    """Reproducible and therefore no protection: for simulations and tests only."""


class EvaluationPrivacy(StrEnum):
    """What sites send about the scores of their own test and validation patients."""

    EXACT = "exact"
    """Histograms as they are, after every round: no guarantee for those patients."""
    DP = "dp"
    """Histograms with Gaussian noise, once, after the last round; charged to those patients' budget."""
    NONE = "none"
    """Nothing: figures and threshold come from the server's own files."""


class StrategyName(StrEnum):
    """How the server turns updates into new parameters."""

    FEDAVG = "fedavg"
    FEDAVGM = "fedavgm"
    FEDADAM = "fedadam"
    FEDPROX = "fedprox"
    ONE_SHOT = "one_shot"
    """No update: sites send moments once, and the server fits the linear head to them."""


class Backend(StrEnum):
    """What runs the simulated sites."""

    LOCAL = "local"
    RAY = "ray"


class Partition(StrEnum):
    """How a simulation deals patients to sites."""

    HOSPITAL = "hospital"
    """By ``sites.csv``: the hospital that really saw the patient."""
    IID = "iid"
    LABEL_SKEW = "label_skew"
    DENSITY_SKEW = "density_skew"


class Aggregation(StrEnum):
    """How the updates of a round become one."""

    GUARDED = "guarded"
    """The mean by declared patients near equal shares, of updates no longer than most, by how far sites agree."""
    MEAN = "mean"
    """By declared patients."""
    TRIMMED_MEAN = "trimmed_mean"
    """Every entry's mean without its extremes."""
    MEDIAN = "median"
    """Every entry's median."""
    KRUM = "krum"
    """The one update that has the nearest neighbours."""


class UpdateNorm(StrEnum):
    """Bounds of the length of an update that are no number."""

    AUTO = "auto"
    """What no honest update exceeds, computed from the privacy plan; without privacy there is none."""
