"""How soon Flower looks again for a part of a message that is still on its way.

A message is handed out before all of its parts (Flower's objects) have arrived. Who finds one missing waits for a
second, then two, up to ten, which was most of a round of a small network. Here the first wait is a twentieth of that;
the longest stays, so that a large network on a slow line has as many hours as before.
"""

from flwr.supercore.inflatable import inflatable_utils

FIRST_WAIT_SECONDS = 0.05


def pull_soon() -> None:
    """Let every later pull of this process wait shortly at first; Flower has no setting for it."""
    for pull in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        pull.__kwdefaults__ = {**(pull.__kwdefaults__ or {}), "initial_backoff": FIRST_WAIT_SECONDS}
