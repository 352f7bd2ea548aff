"""What a site allows, what it has spent, and how it reports both."""
