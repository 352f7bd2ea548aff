"""The server: sends parameters, checks replies, aggregates, evaluates. It has no path to site data."""
