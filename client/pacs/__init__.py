"""The site and its PACS: films in, results out, by DIMSE, DICOMweb and FHIR."""
