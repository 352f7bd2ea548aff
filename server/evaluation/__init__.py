"""The global network's metrics after each round, and the estimates of the final one."""
