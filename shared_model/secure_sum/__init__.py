"""Secure sums: the coordinator learns the sum of the sites' vectors modulo 2^32, and no site's own (Bonawitz 2017).

Pure: keys, statements, masks and the grid. Who asks what when, and what a site keeps on its disk, is decided elsewhere.
"""
