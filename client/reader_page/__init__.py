"""The page: a browser on the hospital's own machines shows films, asks for readings, and takes doctors' opinions."""
