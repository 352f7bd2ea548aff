"""``fedmammo site``: what a person at a hospital does. A command parses, calls and prints, and imports when it runs."""
