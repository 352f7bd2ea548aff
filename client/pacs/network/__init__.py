"""DIMSE: the associations that ask a PACS, send to it, and let it send films here."""
