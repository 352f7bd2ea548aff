"""The global network's scores, and the estimates made from them."""
