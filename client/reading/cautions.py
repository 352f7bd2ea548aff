"""When not to trust a reading: what of this lesion and this release makes it less sure than the figures say."""

from collections.abc import Iterator, Sequence

from client.data.dicom.examination import Examination
from client.data.grey_findings import GreyFault, grey_findings
from client.data.grey_levels import grey_levels
from client.reading.gates import MAX_VIEWS
from client.reading.preparation import PreparedLesion, columns_read
from client.reading.release import OpenedRelease
from client.reading.result import Answer
from shared_model.config.choices import Views
from shared_model.reference.grey_levels import load_grey_references
from shared_model.release.document import NOT_CALIBRATED

_JUDGED_BY_GATES = (GreyFault.NEGATIVE, GreyFault.SOME_NEGATIVE)
"""They look at features too."""


def of_lesion(prepared: PreparedLesion, release: OpenedRelease) -> Iterator[str]:
    """Yield what the lesion's pictures and columns leave open."""
    contract, opened = release.document.contract, prepared.opened
    if contract.views is Views.ALL and opened and len(opened) < MAX_VIEWS:
        yield "One view of two: most lesions of the training were seen on both."
    if any(each.grey.laterality is None and each.grey.view is None for each in opened):
        yield "A file says neither view nor side: nobody has checked that it is the picture that was meant."
    yield from _of_examinations([each.examination for each in opened])
    if any(each.view is None for each in opened):
        yield "The view of a picture is not known."
    levels = [grey_levels(pixels[0].numpy(), contract.image.mode) for pixels in prepared.pixels]
    for finding in grey_findings(levels, load_grey_references().fitting(contract.image)):
        if finding.fault not in _JUDGED_BY_GATES:
            yield f"Grey levels of the pictures: {finding.text}."
    if prepared.negative_share:
        yield "One look at a picture takes it for a negative; the others do not."
    wanted = [column.name for column in columns_read(contract) if not column.optional]
    if missing := [name for name in wanted if all(row.get(name) is None for row in prepared.cells)]:
        yield f"Not recorded, and read as neither high nor low: {', '.join(missing)}."


def _of_examinations(examinations: Sequence[Examination]) -> Iterator[str]:
    if len(examinations) == MAX_VIEWS and not all(each.patient for each in examinations):
        yield "A file names no patient: nobody has checked that both pictures are of one."
    for unusual in dict.fromkeys(words for each in examinations for words in each.unusual):
        yield f"A film says that it shows {unusual}; the training may have had none."


def of_answer(answer: Answer) -> Iterator[str]:
    """Yield what the answer itself leaves open."""
    if answer.local is not None:
        yield (
            "The local probability rests on the outcomes that somebody has kept at this site: lesions that were "
            "followed up. Call and band are of the release's own probability."
        )
    if answer.threshold_interval.low <= answer.probability <= answer.threshold_interval.high:
        yield "The probability lies within the uncertainty of the threshold: the call could be the other."
    if answer.conformal_label is not None and (answer.conformal_label == "malignant") != answer.is_above_threshold:
        yield (
            f"At level {answer.conformal_level:g} only {answer.conformal_label} is left; the threshold, which is to "
            "miss few cancers, calls it the other way."
        )


def of_release(release: OpenedRelease, *, is_logged: bool) -> Iterator[str]:
    """Yield what is not known of the release, and then its limits whatever the lesion."""
    document, facts = release.document, release.facts
    if not facts.is_signed:
        yield "The release is not signed: nobody vouches for it."
    elif not facts.is_signer_known:
        yield "No site was named, so nobody has checked whose signature the release has."
    if not is_logged:
        yield "No site was named, so this reading stands in no audit log."
    if document.public is None:
        yield f"For this release {NOT_CALIBRATED}."
    else:
        if document.public.abstention is None:
            yield "For this release abstention was not calibrated."
        if document.public.novelty is None:
            yield "For this release novelty was not calibrated."
    yield from document.limits
