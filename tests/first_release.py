"""What the first release wrote, for tests of what may not change: fingerprints rest on the bytes."""

import json

PUBLIC_PATIENTS = (
    "data.public_fraction=0.12",
    "model.feature_constants=public",
    "model.image_components=64",
    "strategy.average_last_fraction=0.5",
    "evaluation.threshold_from=held_out",
    "evaluation.dp_num_bins=10",
)
"""Overrides with which ``preset=cbis_mass`` has its first recipe: 12 % of the training patients are public."""
_LATER = {
    "strategy": ("max_site_share",),
    "model": ("feature_engine", "feature_constants", "constants_file", "initial_head"),
    "privacy": ("mean_share", "histogram_share"),
    "federation": ("secure_sum", "max_colluding"),
    "evaluation": ("threshold_from", "training_bins"),
}
"""Keys that it did not have."""


def as_first_released(config):
    """Return the JSON of ``config`` without later keys."""
    values = json.loads(config.to_json())
    for section, keys in _LATER.items():
        for key in keys:
            del values[section][key]
    return json.dumps(values, sort_keys=True)
