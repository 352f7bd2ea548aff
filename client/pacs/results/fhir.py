"""A reading as FHIR resources in one transaction: device, observation, risk assessment, preliminary report.

Each resource is created on condition that none with its identifier exists, and identifiers are made of content: what is
posted twice is stored once. The patient is named by the hospital's identifier alone.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as BundleR4B
from pydicom.sr.coding import Code

from client.pacs.results import codes as used
from client.pacs.results.film_header import read_header
from client.pacs.results.identity import device_uid, uuid_of
from client.pacs.results.lesion_reading import LesionReading, Outcome, Score
from client.pacs.results.wording import MAKER, PROGRAM, WARNING, ascii_text, headline, remarks
from shared_model.errors import ConfigError, DicomError
from shared_model.system.files import write_atomically

Resource = dict[str, Any]
"""A resource as plain values of JSON."""

SYSTEMS = {
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "SCT": "http://snomed.info/sct",
    "UCUM": "http://unitsofmeasure.org",
    "LOINC": "http://loinc.org",
}
"""Code systems as FHIR names them."""
REPORT = Code("18748-4", "LOINC", "Diagnostic imaging study")
MALIGNANCY = Code("254837009", "SCT", "Malignant neoplasm of breast")
_HL7 = "http://terminology.hl7.org/CodeSystem"
_URI = "urn:ietf:rfc:3986"
_UNANSWERED = {
    Outcome.ABSTAINED: ("unknown", "Unknown"),
    Outcome.REFUSED: ("not-performed", "Not Performed"),
}


class FhirVersion(StrEnum):
    """Versions that are written."""

    R4B = "R4B"
    R5 = "R5"


@dataclass(frozen=True, kw_only=True)
class PatientIdentifier:
    """How the hospital's systems know the patient."""

    system: str
    """URI of the hospital's numbers."""
    value: str

    def __post_init__(self) -> None:
        for name in ("system", "value"):
            value = getattr(self, name)
            if not value or len(value) > 200 or not value.isprintable():
                raise ConfigError(f"Expected {name} of the patient's identifier, printable and at most 200 characters.")


def transaction(
    reading: LesionReading, *, patient: PatientIdentifier, study: str, version: FhirVersion = FhirVersion.R5
) -> str:
    """Return the transaction as JSON text, checked by ``fhir.resources``.

    Args:
        reading: of one lesion.
        patient: whose it is.
        study: Study Instance UID of its films.
        version: of FHIR.
    """
    writer = _Writer(reading=reading, patient=patient, study=study, version=version)
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": writer.entries()}
    text = json.dumps(bundle, indent=1, sort_keys=True) + "\n"
    (BundleR4B if version is FhirVersion.R4B else Bundle).model_validate_json(text)
    return text


def write_transactions(
    reading: LesionReading, folder: Path, *, patient_system: str, patient_issuer: str | None = None
) -> tuple[Path, ...]:
    """Write the transaction in each version of FHIR; the patient is the one of the films.

    Args:
        reading: of one lesion.
        folder: where the files go.
        patient_system: URI of the hospital's patient numbers.
        patient_issuer: what films of the hospital's own patients have in IssuerOfPatientID, if they have it.

    Raises:
        DicomError: a film cannot be read, names no patient, or has its number from another issuer.
        OSError: a file cannot be written.
    """
    header = read_header(reading.films[0].path)
    if not header.PatientID:
        raise DicomError("Expected PatientID in the film: FHIR resources need to know whose they are.")
    issuer = str(header.IssuerOfPatientID).strip()
    # The same number of another hospital is another patient's.
    if issuer and issuer != patient_issuer:
        raise DicomError(
            f"Expected IssuerOfPatientID to be that of the hospital's own numbers ({patient_issuer}), got {issuer!r}: "
            "no FHIR resources were written; name it as patient_issuer in the section pacs if it is."
        )
    patient = PatientIdentifier(system=patient_system, value=str(header.PatientID))
    study, paths = str(header.StudyInstanceUID), []
    for version in FhirVersion:
        paths.append(folder / f"fhir-{version.lower()}.json")
        content = transaction(reading, patient=patient, study=study, version=version)
        write_atomically(paths[-1], content.encode())
    return tuple(paths)


@dataclass(frozen=True, kw_only=True)
class _Writer:
    reading: LesionReading
    patient: PatientIdentifier
    study: str
    version: FhirVersion

    def entries(self) -> list[Resource]:
        device = _entry(self._device())
        observation = _entry(self._observation(device["fullUrl"]))
        entries = [device, observation]
        if self.reading.score is not None:
            entries.append(_entry(self._risk(self.reading.score, device["fullUrl"], observation["fullUrl"])))
        return [*entries, _entry(self._report(observation["fullUrl"]))]

    def _device(self) -> Resource:
        label = f"{PROGRAM} reader (research)"
        if self.version is FhirVersion.R4B:
            names = {"deviceName": [{"type": "user-friendly-name", "name": label}]}
        else:
            names = {"name": [{"type": "user-friendly-name", "value": label}]}
        return {
            "resourceType": "Device",
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{device_uid(self.reading)}"}],
            "status": "active",
            "manufacturer": MAKER,
            "version": [
                {"value": self.reading.software},
                {"value": f"release sha256 {self.reading.release_digest}"},
            ],
            **names,
        }

    def _observation(self, device: str) -> Resource:
        reading = self.reading
        return {
            "resourceType": "Observation",
            "status": "preliminary",
            "category": [_coded(f"{_HL7}/observation-category", "imaging", "Imaging")],
            "code": _concept(used.PROBABILITY),
            "subject": self._subject(),
            "effectiveDateTime": reading.read_at.isoformat(timespec="seconds"),
            "device": {"reference": device},
            "bodySite": _concept(used.BREASTS[reading.laterality]),
            "derivedFrom": [self._imaging_study()],
            "note": [{"text": line} for line in (headline(reading), *remarks(reading))],
            **self._value(),
        }

    def _value(self) -> Resource:
        score = self.reading.score
        if score is None:
            code, display = _UNANSWERED[self.reading.outcome]
            absent = _coded(f"{_HL7}/data-absent-reason", code, display)
            return {"dataAbsentReason": {**absent, "text": ascii_text(self.reading.reason)}}
        bounds = (("Lower bound of the 95 % interval", score.low), ("Upper bound of the 95 % interval", score.high))
        parts = (*bounds, ("Operating threshold", score.threshold))
        return {
            "valueQuantity": _percent(score.probability),
            "component": [{"code": {"text": text}, "valueQuantity": _percent(value)} for text, value in parts],
        }

    def _risk(self, score: Score, device: str, observation: str) -> Resource:
        side = "At or above" if score.is_above else "Below"
        return {
            "resourceType": "RiskAssessment",
            "status": "preliminary",
            "subject": self._subject(),
            "occurrenceDateTime": self.reading.read_at.isoformat(timespec="seconds"),
            "performer": {"reference": device},
            "basis": [{"reference": observation}],
            "method": {"text": f"{PROGRAM} {self.reading.software}, one marked lesion"},
            "prediction": [
                {
                    "outcome": _concept(MALIGNANCY),
                    "probabilityDecimal": round(score.probability, 4),
                    "qualitativeRisk": {"text": f"{side} the operating threshold"},
                    "rationale": ascii_text(score.band or headline(self.reading)),
                }
            ],
            "note": [{"text": line} for line in remarks(self.reading)],
        }

    def _report(self, observation: str) -> Resource:
        study = "imagingStudy" if self.version is FhirVersion.R4B else "study"
        return {
            "resourceType": "DiagnosticReport",
            "status": "preliminary",
            "category": [_coded(f"{_HL7}/v2-0074", "RAD", "Radiology")],
            "code": _concept(REPORT),
            "subject": self._subject(),
            "effectiveDateTime": self.reading.read_at.isoformat(timespec="seconds"),
            "result": [{"reference": observation}],
            "conclusion": f"{headline(self.reading)}. {WARNING[0].upper()}{WARNING[1:]}.",
            study: [self._imaging_study()],
        }

    def _subject(self) -> Resource:
        return {"type": "Patient", "identifier": {"system": self.patient.system, "value": self.patient.value}}

    def _imaging_study(self) -> Resource:
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{self.study}"}
        return {"type": "ImagingStudy", "identifier": identifier}


def _entry(resource: Resource) -> Resource:
    """Return the conditional creation of a resource, with an identifier of its content unless it has one."""
    kind = resource["resourceType"]
    name = uuid_of(kind, json.dumps(resource, sort_keys=True)).urn
    identifier = resource.get("identifier", [{"system": _URI, "value": name}])
    condition = f"identifier={identifier[0]['system']}|{identifier[0]['value']}"
    return {
        "fullUrl": name,
        "resource": {**resource, "identifier": identifier},
        "request": {"method": "POST", "url": kind, "ifNoneExist": condition},
    }


def _concept(code: Code) -> Resource:
    return _coded(SYSTEMS[code.scheme_designator], code.value, code.meaning)


def _coded(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _percent(value: float) -> Resource:
    return {"value": round(100 * value, 2), "unit": "%", "system": SYSTEMS["UCUM"], "code": "%"}
