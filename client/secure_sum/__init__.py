"""A site's side of a secure sum: its keys, its masked release, and what it does to open the sum."""
