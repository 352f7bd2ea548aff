"""The site's own tables and images, read, checked and turned into network input."""
