"""A day from the first film to the last result: what is done, what must come of it, and what is seen.

Films arrive from the PACS by C-STORE, appear in the work list, are read in a browser, and the results go back and are
found there. Some films must not be read, or must be marked. The same folder may be played again: what was made once is
there, films and results are known to the PACS, and the audit log goes on.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from client.deployment.pacs_section import read_section
from client.pacs.network.association import associated
from client.pacs.sending import read_results
from shared_model.errors import ConfigError, FederatedMammographyError
from shared_model.system.audit_log import read as read_log
from simulations.day import browser, loopback, orthanc, real_films
from simulations.day.browser import Radiologist, Shown, radiologist
from simulations.day.commands import fedmammo
from simulations.day.films import Breast, Examination, Kind, phantom_breasts, write_examinations
from simulations.day.protocol import Protocol
from simulations.day.releases import LEVEL, digest, phantom_release, real_release
from simulations.day.site import MODALITY, Site, site_in

NUM_PHANTOMS = 3
PROTOCOL, PICTURE = "protocol.md", "page.png"
_FILMS_SYNTAXES = ["1.2.840.10008.1.2.1"]
"""Explicit VR Little Endian (PS3.5 A.2), in which all films of a day are written."""
_READ, _ABSTAINED, _REFUSED = "Reading", "Abstained", "Refused"
_READER_REFUSED = 3
"""Exit status of ``fedmammo read``."""
_NOT_POSTED = "No FHIR server takes part: the transactions are written and checked, and not posted."
_PHANTOM_NOTES = (
    "Patients, films and hospital are synthetic. The network was trained on a phantom of 240 patients with "
    "reproducible noise, so nobody was protected and no figure here means anything. The films are the phantom's, "
    "digitised by its scanners and enlarged threefold, since the reader takes pictures below 500 pixels for crops.",
    _NOT_POSTED,
)
_REAL_NOTES = (
    "**A rehearsal release, never to be used for figures or patients.** Its network was trained on the shipped patches "
    "of CBIS-DDSM masses without these films' patients, each entered as a film at whose box the cut is the patch, with "
    "reproducible noise. The films' boxes are put where their own patches lie: at the box of the official mask the "
    "network would see another cut than it was trained on.",
    "The four films are copies: CBIS-DDSM gives every view a patient and a study of its own, and a hospital has one of "
    "each. PatientID, PatientName, AccessionNumber, StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID were "
    "rewritten, and the pixels decompressed.",
    _NOT_POSTED,
)


def missing(root: Path | None) -> str:
    """Return what this machine lacks for a day, in one line; empty if nothing.

    Args:
        root: of the four real films; None for a day with the phantom.
    """
    lacks = (loopback.missing(), orthanc.missing(), browser.missing(), "" if root is None else real_films.missing(root))
    return next(filter(None, lacks), "")


def play(folder: Path, console: Console, *, root: Path | None = None) -> bool:
    """Play a day in ``folder`` and write ``protocol.md`` there; return whether every step went as expected.

    Args:
        folder: new, or that of an earlier day.
        console: hears each step.
        root: CBIS-DDSM, whose four films are then used; None takes the phantom.

    Raises:
        ConfigError: others than this machine would reach the PACS, or the folder is in use by something else.
        OSError: the folder cannot be written.
    """
    if not loopback.is_alone():
        raise ConfigError("Expected a network with loopback alone: fedmammo rehearse-day makes one.")
    title = "A day with the phantom" if root is None else "A day with four real films of CBIS-DDSM"
    protocol = Protocol(path=folder / PROTOCOL, console=console)
    if folder.exists() and any(folder.iterdir()) and not protocol.is_of(title):
        # Half a run that was killed is removed, which somebody else's folder of that name must not be; and a release
        # for other films than those of the day must not be taken for theirs.
        raise ConfigError(
            f"Expected {folder} to be new, empty, or of an earlier day of this kind; choose another --out."
        )
    folder.mkdir(parents=True, exist_ok=True)
    protocol.begin(title, *(_PHANTOM_NOTES if root is None else _REAL_NOTES))
    try:
        _play(folder, protocol, root)
    except FederatedMammographyError as error:
        protocol.step("The day", expected="no error", seen=str(error), is_met=False)
    return protocol.end()


def _play(folder: Path, protocol: Protocol, root: Path | None) -> None:
    site = site_in(folder)
    breasts: Sequence[Breast]
    if root is None:
        release, breasts = phantom_release(folder, site.server_kit), phantom_breasts(NUM_PHANTOMS)
    else:
        release = real_release(folder, site.server_kit, root)
        breasts, correlations = real_films.real_breasts(root)
        shown = ", ".join(f"{each:.3f}" for each in correlations)
        protocol.note(f"Correlation of each patch with the place on its film: {shown}.")
    protocol.note(f"The release abstains at level {LEVEL:g}.")
    site.approve(digest(release))
    examinations = write_examinations(breasts, folder / "films")
    with orthanc.running(folder / "orthanc"):
        _arrive(site, protocol, examinations, folder)
        with site.page(release) as address, radiologist(address) as person:
            readings = _read_all(person, protocol, examinations, folder / PICTURE)
        _refuse_raw(site, protocol, release, examinations)
        for examination in examinations:
            if examination.patient in readings:
                _return(site, protocol, examination, readings[examination.patient], folder / "results")
    _check_log(site, protocol, examinations, readings)


def _arrive(site: Site, protocol: Protocol, examinations: Sequence[Examination], folder: Path) -> None:
    """Let a modality send all films to the PACS, and the PACS to the site."""
    heard = site.pacs("echo")
    protocol.step(
        "The site asks the PACS whether it hears (`fedmammo site pacs echo`)",
        expected="it hears",
        seen=heard.last_line,
        is_met=heard.status == 0,
    )
    paths = [path for examination in examinations for path in examination.paths.values()]
    statuses = _send(folder, paths)
    protocol.step(
        f"A modality sends {len(paths)} films of {len(examinations)} patients to the PACS (C-STORE)",
        expected="status 0x0000 for each",
        seen=", ".join(f"{status} {statuses.count(status)} times" for status in sorted(set(statuses))),
        is_met=set(statuses) == {"0x0000"},
    )
    with site.receiving():
        sent = [orthanc.forward(examination.study) for examination in examinations]
    num_there = len(list(Path(site.settings.require_pacs().incoming).glob("*/*.dcm")))
    protocol.step(
        "The PACS sends them on to the site (C-STORE, `fedmammo site pacs receive`)",
        expected=f"{len(paths)} arrive, and as many lie in its folder, however often they are sent",
        seen=f"{sum(arrived for arrived, _ in sent)} arrived, {sum(failed for _, failed in sent)} failed, "
        f"{num_there} in the folder",
        is_met=sent == [(len(each.paths), 0) for each in examinations] and num_there == len(paths),
    )


def _send(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Return the PACS's status of each film."""
    settings = read_section({**orthanc.section(folder), "ae_title": MODALITY}, folder)
    classes = ["1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.1.2.1", "1.2.840.10008.5.1.4.1.1.7"]
    with associated(settings, [(each, _FILMS_SYNTAXES) for each in classes]) as association:
        return [f"0x{association.send_c_store(path).get('Status', 0xFFFF):04X}" for path in paths]


def _read_all(
    person: Radiologist, protocol: Protocol, examinations: Sequence[Examination], picture: Path
) -> dict[str, Shown]:
    """Let the radiologist read every examination; return what the page showed of those that it could show."""
    listed, wanted = person.patients(), {examination.patient for examination in examinations}
    protocol.step(
        "The radiologist opens the page's work list",
        expected=f"the {len(wanted)} patients of the day",
        seen=f"{len(listed & wanted)} of them, and {len(listed - wanted)} others",
        is_met=listed == wanted,
    )
    raw = [each for each in examinations if each.kind is Kind.FOR_PROCESSING]
    readings = {}
    for examination in examinations:
        if examination not in raw:
            readings[examination.patient] = _read(person, protocol, examination)
            if examination.kind is Kind.PLAIN and readings[examination.patient].title == _READ:
                person.picture(picture)
                kept = person.agree("A rehearsal.")
                protocol.step("She agrees", expected="kept at the site", seen=kept, is_met=kept == "Kept at this site.")
    outcomes = [readings[each.patient].title for each in examinations if each.kind is Kind.PLAIN]
    protocol.step(
        "Of the examinations with nothing wrong",
        expected="at least one is read, and none refused",
        seen=", ".join(f"{outcomes.count(title)} {title.lower()}" for title in sorted(set(outcomes))),
        is_met=_READ in outcomes and _REFUSED not in outcomes,
    )
    protocol.step(
        "The browser's console",
        expected="no error, and nothing against the content security policy",
        seen="; ".join(person.troubles) or "nothing",
        is_met=not person.troubles,
    )
    for examination in raw:
        row, problem = person.row(examination.patient), person.problem(examination.patient)
        protocol.step(
            f"{examination.patient}, {examination.kind}: the work list and the study",
            expected="marked on both as what cannot be read",
            seen=problem,
            is_met="cannot be read" in row and "raw values of the detector" in problem,
        )
    return readings


def _read(person: Radiologist, protocol: Protocol, examination: Examination) -> Shown:
    shown = person.read(examination.patient, examination.boxes, examination.columns)
    expected, is_met = {
        Kind.PLAIN: ("a reading, or that the release cannot tell", shown.title in {_READ, _ABSTAINED}),
        Kind.ONE_VIEW: ("that it is one view of two", shown.title != _READ or "One view of two" in shown.text),
        Kind.NEGATIVE: ("no probability, since it is a negative", _is_withheld(shown, "negative")),
        Kind.UNLIKE: ("no probability, since it is unlike training", _is_withheld(shown, "unlike", "Expected grey")),
    }[examination.kind]
    protocol.step(
        f"{examination.patient}, {examination.kind}: she marks the lesion and has it read",
        expected=expected,
        seen=shown.summary,
        is_met=is_met,
    )
    return shown


def _is_withheld(shown: Shown, *words: str) -> bool:
    """Return whether the page gives no probability, for one of these reasons."""
    return (
        shown.title in {_ABSTAINED, _REFUSED}
        and "% probability" not in shown.text
        and any(word in shown.text for word in words)
    )


def _refuse_raw(site: Site, protocol: Protocol, release: Path, examinations: Sequence[Examination]) -> None:
    """Let somebody try a film FOR PROCESSING with the command instead."""
    for examination in examinations:
        if examination.kind is Kind.FOR_PROCESSING:
            (view, film), *_ = examination.paths.items()
            box = examination.boxes[view]
            words = ("--release", release, "--site", site.path, f"--{view.lower()}", film)
            marked = (f"--box-{view.lower()}", f"{box.x},{box.y},{box.width},{box.height}")
            done = fedmammo("read", *words, *marked)
            protocol.step(
                f"{examination.patient}, {examination.kind}: somebody tries `fedmammo read`",
                expected="refused, exit status 3",
                seen=f"exit status {done.status}: {done.line('file:')}",
                is_met=done.status == _READER_REFUSED and "raw values of the detector" in done.output,
            )


def _return(site: Site, protocol: Protocol, examination: Examination, shown: Shown, folder: Path) -> None:
    """Write the results of a reading, send them twice, and look for them in the PACS."""
    out = folder / shown.reading
    written = site.pacs("results", shown.reading, "--out", out)
    paths = sorted(out.glob("*.dcm"))
    if written.status or not paths:
        protocol.step(
            f"{examination.patient}: `fedmammo site pacs results {shown.reading}`",
            expected="results are written",
            seen=written.last_line,
            is_met=False,
        )
        return
    before = orthanc.instances(examination.study)
    sent = [site.pacs("send", *paths).status for _ in range(2)]
    after, results = orthanc.instances(examination.study), {result.instance for result in read_results(paths)}
    found = site.pacs("find", "--patient", examination.patient)
    protocol.step(
        f"{examination.patient}: the results of its reading are sent to the PACS, and sent again",
        expected=f"{len(results)} more in the film's own study, once each, and the study is found by its patient",
        seen=f"{len(results & after)} of {len(results)} found, {len(after - before)} more than before",
        is_met=sent == [0, 0]
        and results <= after
        and after - before == results - before
        and examination.study in found.output,
    )


def _check_log(site: Site, protocol: Protocol, examinations: Sequence[Examination], readings: dict[str, Shown]) -> None:
    lines = read_log(site.settings.audit_log)
    numbers = [str(line.facts.get("reading")) for line in lines if line.event == "reading"]
    text = site.settings.audit_log.read_text(encoding="utf-8")
    leaks = [each for examination in examinations for each in (examination.patient, examination.study) if each in text]
    protocol.step(
        "The audit log is verified",
        expected="an unbroken chain with one line for each reading, and no patient in it",
        seen=f"{len(lines)} lines, unbroken; {len(numbers)} readings; {len(leaks)} identifiers of patients or studies",
        is_met=all(numbers.count(shown.reading) == 1 for shown in readings.values()) and not leaks,
    )
