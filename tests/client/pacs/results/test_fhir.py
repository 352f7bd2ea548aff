import json

import pytest
from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as BundleR4B

from client.pacs.results.fhir import FhirVersion, PatientIdentifier, transaction
from shared_model.errors import ConfigError
from tests.pacs_films import STUDY, abstained, reading_of

HER = PatientIdentifier(system="urn:oid:1.2.3", value="17")
VERSIONS = pytest.mark.parametrize("version", FhirVersion)


def resources(text):
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in json.loads(text)["entry"]}


@VERSIONS
@pytest.mark.parametrize("make", [reading_of, abstained])
def test_the_transaction_is_valid_and_creates_each_resource_once(films, make, version):
    text = transaction(make(films), patient=HER, study=STUDY, version=version)
    assert text == transaction(make(films), patient=HER, study=STUDY, version=version)
    (BundleR4B if version is FhirVersion.R4B else Bundle).model_validate_json(text)
    entries = json.loads(text)["entry"]
    conditions = [entry["request"]["ifNoneExist"] for entry in entries]
    assert len(set(conditions)) == len(entries)
    for entry, condition in zip(entries, conditions, strict=True):
        identifier = entry["resource"]["identifier"][0]
        assert condition == f"identifier={identifier['system']}|{identifier['value']}"
        assert entry["request"]["method"] == "POST"


@VERSIONS
def test_it_says_what_the_reading_says(films, version):
    found = resources(transaction(reading_of(films), patient=HER, study=STUDY, version=version))
    assert found["RiskAssessment"]["prediction"][0]["probabilityDecimal"] == 0.81
    assert found["Observation"]["valueQuantity"]["value"] == 81.0
    assert [part["valueQuantity"]["value"] for part in found["Observation"]["component"]] == [70.0, 90.0, 30.0]
    assert found["DiagnosticReport"]["status"] == "preliminary"
    assert "ot for diagnosis" in found["DiagnosticReport"]["conclusion"]
    study = found["DiagnosticReport"]["imagingStudy" if version is FhirVersion.R4B else "study"]
    assert study[0]["identifier"]["value"] == f"urn:oid:{STUDY}"


@VERSIONS
def test_without_an_answer_there_is_no_risk_and_no_number(films, version):
    found = resources(transaction(abstained(films), patient=HER, study=STUDY, version=version))
    assert set(found) == {"Device", "Observation", "DiagnosticReport"}
    assert "valueQuantity" not in found["Observation"]
    assert found["Observation"]["dataAbsentReason"]["text"] == "both labels are possible"


@VERSIONS
def test_the_patient_is_an_identifier_and_no_name(films, version):
    text = transaction(reading_of(films), patient=HER, study=STUDY, version=version)
    for kind, resource in resources(text).items():
        if kind != "Device":
            assert resource["subject"] == {"type": "Patient", "identifier": {"system": "urn:oid:1.2.3", "value": "17"}}
    assert "Phantom" not in text


def test_another_patient_has_other_resources_and_the_same_device(films):
    first = json.loads(transaction(reading_of(films), patient=HER, study=STUDY))
    other = PatientIdentifier(system="urn:oid:1.2.3", value="18")
    second = json.loads(transaction(reading_of(films), patient=other, study=STUDY))
    same = [a["fullUrl"] == b["fullUrl"] for a, b in zip(first["entry"], second["entry"], strict=True)]
    assert same == [True, False, False, False]


@pytest.mark.parametrize("value", ["", "a\nb", "x" * 201])
def test_an_identifier_that_is_none(value):
    with pytest.raises(ConfigError, match="Expected value of the patient's identifier"):
        PatientIdentifier(system="urn:oid:1.2.3", value=value)
