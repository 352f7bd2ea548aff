"""What a federation costs as it grows: one module for each part of ``fedmammo benchmark cost``."""
