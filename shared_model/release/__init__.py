"""A release: what a reader needs of a finished run, as a folder that its digest and a signature fix."""
