"""``fedmammo server``: what the coordinator does. A command parses, calls and prints, and imports when it runs."""
