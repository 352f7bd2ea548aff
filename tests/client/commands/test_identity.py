"""``fedmammo site identity``: what a hospital tells its partners, and nothing of its secret."""

import re

from client.privacy.ledger import Ledger
from shared_model.secure_sum.identity import Identity
from simulations.commands.app import main


def identity(capsys, *arguments):
    status = main(["site", "identity", *arguments])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_the_identity_stands_there_to_be_copied_and_to_be_read_aloud(begun, capsys):
    status, said = identity(capsys)
    assert status == 0
    (line,) = re.findall(r"^  MGH: ([0-9a-f]{64})$", said, re.MULTILINE)
    groups = re.findall(r"^  ((?:[0-9a-f]{4} ?){4})$", said, re.MULTILINE)
    assert len(groups) == 4
    assert "".join(groups).replace(" ", "") == line
    secret = Ledger(begun.site.ledger).identity_secret
    assert bytes.fromhex(line) == Identity.from_secret(secret).public
    assert secret.hex() not in said
    assert identity(capsys)[1] == said


def test_a_ledger_that_is_not_the_sites_own_has_no_say(begun, capsys):
    begun.site.ledger_identity.write_text("another\n")
    status, said = identity(capsys)
    assert status == 1
    assert "Expected the ledger another of this site" in said
