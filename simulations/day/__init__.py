"""A hospital's day with the reader, played on one machine: a PACS, films, the page, results, and what must go wrong."""
