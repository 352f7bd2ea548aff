"""A DICOM file to grey values; the only code of a site that uses pydicom."""
