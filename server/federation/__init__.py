"""The rounds of a training: exchange with the sites, aggregation, optimiser, checkpoints."""
