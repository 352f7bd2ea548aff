"""What is written of a reading: structured report, presentation state, picture, FHIR resources."""
