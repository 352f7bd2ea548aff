"""Numbers of public lesions that come with the package, and the file that holds such numbers."""
