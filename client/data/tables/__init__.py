"""A site's clinical tables: read as text, checked row by row, and encoded as numbers."""
