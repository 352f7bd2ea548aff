"""The rounds of a training: exchange with the sites, aggregation, server optimiser, checkpoints."""
