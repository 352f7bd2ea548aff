"""HTTP: DICOMweb and FHIR, with bounded answers."""
