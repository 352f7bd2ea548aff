"""One hospital: reads its own images and table, trains privately, replies with an update."""
