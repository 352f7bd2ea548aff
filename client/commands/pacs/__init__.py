"""``fedmammo site pacs``: films from the PACS, results to it."""
