"""Studies of the PACS, by either of its doors."""

from client.deployment.pacs_section import PacsSettings
from client.pacs.network import association
from client.pacs.queries import Matches, StudyQuery
from client.pacs.web import dicom_web
from client.pacs.web.service import web_service


def search(settings: PacsSettings, query: StudyQuery, *, by_web: bool) -> Matches:
    """Ask for studies with mammograms, over DICOMweb or by C-FIND.

    Raises:
        ConfigError, PacsError: the door is not set up, or the PACS does not answer as it should.
    """
    if by_web:
        with web_service(settings) as service:
            return dicom_web.find_studies(service, query)
    return association.find_studies(settings, query)
