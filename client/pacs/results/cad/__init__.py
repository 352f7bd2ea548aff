"""A reading as a Mammography CAD SR document."""
