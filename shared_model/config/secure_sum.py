"""What ``federation.secure_sum=true`` asks of the configuration; anything else is refused where it is composed.

With it a site's reply is one term of a sum that alone the server learns: clipped, with a share of one noise, masked.
"""

from shared_model.config.choices import Aggregation, EvaluationPrivacy, PrivacyMode
from shared_model.config.server_sections import EvaluationConfig, StrategyConfig
from shared_model.config.site_sections import PrivacyConfig, TrainingConfig
from shared_model.system.checked import require


def require_secure_sum(
    privacy: PrivacyConfig, training: TrainingConfig, strategy: StrategyConfig, evaluation: EvaluationConfig
) -> None:
    """Check that every release is one clipped sum with noise, and that nothing asks for the updates of single sites.

    Raises:
        ConfigError: naming the key, and what to set.
    """
    require(
        privacy.mode is PrivacyMode.PATIENT,
        "== patient with federation.secure_sum=true: what sites add up is the noise that protects patients; set "
        "privacy=patient",
        **{"privacy.mode": privacy.mode},
    )
    require(
        training.local_steps == 1,
        "== 1 with federation.secure_sum=true: the noise of a step is whole only in the sum over the sites, so that no "
        "site can take the next step alone",
        **{"training.local_steps": training.local_steps},
    )
    require(
        strategy.aggregation is Aggregation.MEAN,
        "== mean with federation.secure_sum=true: every other rule compares the updates of single sites, which nobody "
        "sees; set strategy.aggregation=mean",
        **{"strategy.aggregation": strategy.aggregation},
    )
    require(
        evaluation.privacy is not EvaluationPrivacy.EXACT,
        "== dp or none with federation.secure_sum=true: exact histograms show the patients of every single site",
        **{"evaluation.privacy": evaluation.privacy},
    )
