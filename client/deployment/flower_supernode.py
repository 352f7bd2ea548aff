"""Flower's SuperNode that ends its process when it can no longer work; takes the arguments of ``flower-supernode``.

Flower 1.41 does not recover from two failures:

- The loop that receives messages may end, for instance when the coordinator dies during their handshake. The process
  goes on and its port stays open, but it never receives a message again.
- A message that arrives while its run ends, or while the connection breaks, has to be dropped, but its task stays in
  memory. The reply to that task is then taken for the reply to the next message, and so on for every later message.

Here the process ends in both cases, after telling the coordinator that it leaves. ``client.deployment.supernode`` then
starts another, which has nothing in memory.

Flower also asks for messages every three seconds, and looks for replies every half second: most of a round of a small
network would be waiting. Here the pauses are short after a message and grow by a quarter while none comes, up to
Flower's own, so that a message waits for about a fifth of the time since the one before.
"""

import os
import sys
import traceback
from collections.abc import Callable

from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode

from client.deployment.pauses import Pauses
from shared_model.messages.object_pulls import pull_soon


def end_on_dropped_message(
    pull: Callable[..., int | None], *, on_message: Callable[[], None] = lambda: None
) -> Callable[..., int | None]:
    """Return ``pull``, which receives and stores a message, such that it exits where one was received and dropped.

    ``on_message`` is called whenever one was received.
    """

    def pull_or_exit(*, receive: Callable[[], object | None], **others: object) -> int | None:
        """Receive and store one message, and exit if it was dropped."""
        has_received = False

        def receive_and_note() -> object | None:
            """Receive one message and remember whether one came."""
            nonlocal has_received
            message = receive()
            has_received = message is not None
            if has_received:
                on_message()
            return message

        run_id = pull(receive=receive_and_note, **others)
        if has_received and run_id is None:
            raise SystemExit("A message was dropped: ending, to be started again.")
        return run_id

    return pull_or_exit


def main() -> None:
    """Run the SuperNode and end the process with it, whatever threads of it are left."""
    pull_soon()
    pauses = Pauses()
    # Flower has no setting for it: its loop waits by ``time.sleep`` and by nothing else of this module.
    vars(start_client_internal)["time"] = pauses
    start_client_internal._pull_and_store_message = end_on_dropped_message(
        start_client_internal._pull_and_store_message, on_message=pauses.shorten
    )
    try:
        flower_supernode()
    except SystemExit as end:
        sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001, whatever it is, the process must not stay
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
