"""``fedmammo site ledger``: copies, moves and checks of a hospital's privacy ledger."""
