"""The server in production: start-up kits, certificates, and Flower's processes."""
