"""What must be right before a hospital's process may start, each with what to do where it is not."""

import dataclasses
import email.utils
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from client.deployment.arithmetic_check import check_arithmetic
from client.deployment.checks import Check, Status, guarded
from client.deployment.connection import AwayError, CertificateError, ProxyInTheWayError, ask, proxy_for
from client.deployment.grey_checks import check_grey_levels
from client.deployment.host_checks import check_file_system, check_other_process
from client.deployment.image_checks import check_file_patients, check_images
from client.deployment.ledger_checks import check_identity, check_ledger, check_rollback
from client.deployment.own_patients import tables_read_once
from client.deployment.patient_checks import (
    check_declared_size,
    check_identifiers,
    check_tables,
    check_training_patients,
)
from client.deployment.site_file import SiteFile
from client.privacy.policy import SecureSum, SitePolicy
from shared_model.config.choices import FeatureEngine
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import ConfigError, FederatedMammographyError
from shared_model.network.openvino_encoder import require_openvino
from shared_model.system.audit_log import verify

_LEDGER = "ledger"
_MAX_CLOCK_SECONDS = 60.0
_MIN_DAYS = 14.0
_MIN_FREE_BYTES = 2**30

_DATA = (
    "correct data_root, data_source, roster or lesion_types in site.yaml, lesion_types of the policy, or the named rows"
)
_IMAGES = "correct the paths in the tables, or export the files that are named again"
_GREY_LEVELS = (
    "look at a few of them: a negative is exported again, or as PhotometricInterpretation=MONOCHROME1; faint ones "
    "need data.image.normalisation=percentile, agreed on by all hospitals"
)
_FILE_PATIENTS = "ask whoever wrote the table: one woman under two identifiers has two privacy budgets"
_ROLLBACK = (
    "fedmammo site ledger recover enters what is lost as spent; where the audit log was changed, see there first"
)
_AUDIT_LOG = (
    "it is evidence, do not delete it: rename it, for example to audit.jsonl.changed, and tell your privacy officer; "
    "compare the ledger with a signed report (--expect-head), since the log was its witness; then a new log begins"
)
_SPELLING = (
    "spell them as before; where a new spelling must stay and you have seen that they are the same patients: fedmammo "
    "site start --accept-spellings"
)


_Named = tuple[str, Callable[[SiteFile], str], str]
"""Name of a check, the check, and what to do where it fails."""
_IMAGE_CHECKS: tuple[_Named, ...] = (
    ("data", check_tables, _DATA),
    ("images", check_images, _IMAGES),
    ("patients of files", check_file_patients, _FILE_PATIENTS),
    ("grey levels", check_grey_levels, _GREY_LEVELS),
)
_LEDGER_CHECKS: tuple[_Named, ...] = (
    (_LEDGER, check_ledger, "find out who changed or moved it; a copy of an earlier day grants too much"),
    ("ledger identity", check_identity, "correct the path of the ledger in site.yaml"),
    ("rollback", check_rollback, _ROLLBACK),
)
_PATIENT_CHECKS: tuple[_Named, ...] = (
    ("identifiers", check_identifiers, _SPELLING),
    ("training patients", check_training_patients, "do not take part with so few; or set the policy's limit"),
    ("declared size", check_declared_size, "set declared_patients of the policy, together with a new run"),
)


def preflight(site: SiteFile) -> list[Check]:
    """Return every check; a site whose checks include a failed one must not start."""
    with tables_read_once():
        checks = _guarded(_IMAGE_CHECKS + _LEDGER_CHECKS + _PATIENT_CHECKS + _host_checks(), site)
    return [*_without_echoes(checks), *_server(site), _versions()]


def check_own_table(site: SiteFile) -> list[Check]:
    """Return those of the checks whose time and memory grow with the site's table."""
    with tables_read_once():
        return _guarded(_IMAGE_CHECKS + _PATIENT_CHECKS, site)


def _guarded(checks: Sequence[_Named], site: SiteFile) -> list[Check]:
    return [guarded(name, check, site, remedy) for name, check, remedy in checks]


def _host_checks() -> tuple[_Named, ...]:
    """Return the checks of settings, files and machine."""
    return (
        ("arithmetic", check_arithmetic, "nothing; another version of torch or of the processor may be faster"),
        ("policy", _policy, "correct the policy file; configs/site_policy/hospital.yaml is one to copy"),
        ("bundles", _bundles, "add the digest that the coordinator publishes, once you have approved the code"),
        ("private key", _key, "take node.key from your kit, and let only the user of this process read it: chmod 600"),
        ("audit log", _audit_log, _AUDIT_LOG),
        ("disk", _disk, "free some space where state_dir and ledger lie"),
        ("file system", check_file_system, "move ledger (fedmammo site ledger move) and state_dir to a local disk"),
        ("other process", check_other_process, "one process for a site: stop that one before you start another"),
    )


def _without_echoes(checks: Sequence[Check]) -> Iterator[Check]:
    """Yield the checks; one that only failed for what the ledger's check has said already points to that."""
    (ledger,) = (check for check in checks if check.name == _LEDGER)
    for check in checks:
        is_echo = check.status is ledger.status is Status.FAILED and check.detail == ledger.detail
        if is_echo and check is not ledger:
            yield dataclasses.replace(check, detail=f"see {_LEDGER}", remedy=f"{_LEDGER} first")
        else:
            yield check


def _policy(site: SiteFile) -> str:
    policy = SitePolicy.load(site.policy)
    approved, here = policy.source_fingerprints, source_fingerprint()
    if approved is not None and here not in approved:
        raise FederatedMammographyError(f"Expected source code {here[:12]} to be approved in {site.policy}.")
    granted = "no limit" if policy.max_epsilon is None else f"epsilon {policy.max_epsilon:g}"
    if policy.secure_sum is SecureSum.DEMAND and policy.partners is None:
        message = f"Expected partners in {site.policy}, since secure_sum: demand refuses every other run."
        raise FederatedMammographyError(message)
    if FeatureEngine.OPENVINO in policy.fields.get("model.feature_engine", ()):
        require_openvino()
    return f"grants {granted}, {_secure_sums(policy)}, source code {here[:12]}"


def _secure_sums(policy: SitePolicy) -> str:
    if policy.secure_sum is SecureSum.REFUSE:
        return "refuses secure sums"
    if policy.partners is None:
        return "no secure sums without partners"
    granted = policy.limits.granted_alone
    broken = "no limit" if granted is None else f"epsilon {granted:g}"
    return f"secure sums with {', '.join(sorted(policy.partners))} ({broken} to whoever breaks them)"


def _bundles(site: SiteFile) -> str:
    approved = site.approved()
    if not approved:
        raise FederatedMammographyError(f"Expected an approved bundle in {site.approved_bundles}, found none.")
    return f"{len(approved)} approved"


def _key(site: SiteFile) -> str:
    # Flower's process would be started again and again, if it cannot read it.
    site.key.read_bytes()
    mode = stat.S_IMODE(site.key.stat().st_mode)
    if mode & 0o077:
        raise FederatedMammographyError(f"Expected {site.key} to be its owner's alone, got mode {mode:o}.")
    return "its owner's alone"


def _audit_log(site: SiteFile) -> str:
    return f"{verify(site.audit_log)} lines verified" if site.audit_log.exists() else "none yet"


def _disk(site: SiteFile) -> str:
    site.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = min(shutil.disk_usage(folder).free for folder in (site.state_dir, site.ledger.parent))
    if free < _MIN_FREE_BYTES:
        raise FederatedMammographyError(f"Expected {free} free bytes >= {_MIN_FREE_BYTES}.")
    return f"{free / 2**30:.0f} GiB free"


def _server(site: SiteFile) -> Iterator[Check]:
    """Check what takes a connection: proxy, server, certificate and clock."""
    proxy = proxy_for(site)
    if proxy is not None:
        remedy = f"nothing, if the way to the coordinator goes through it; else set NO_PROXY for {site.server}"
        yield Check(name="proxy", status=Status.WARNING, detail=proxy, remedy=remedy)
    try:
        answer = ask(site)
    except CertificateError as error:
        detail = f"{site.server}: {error}"
        yield Check(name="certificate", status=Status.FAILED, detail=detail, remedy=error.remedy)
    except ProxyInTheWayError as error:
        yield Check(name="server", status=Status.FAILED, detail=str(error), remedy="ask whoever runs the proxy")
    except ConfigError as error:
        remedy = "correct server in site.yaml, or take ca.pem from your kit"
        yield Check(name="server", status=Status.FAILED, detail=str(error), remedy=remedy)
    except AwayError as error:
        remedy = "nothing, if the coordinator is down: the process waits for it; else check server and firewall"
        yield Check(name="server", status=Status.WARNING, detail=f"{site.server}: {error}", remedy=remedy)
    else:
        yield Check(name="server", status=Status.OK, detail=site.server)
        yield _certificate(answer.not_after)
        yield _clock(answer.date)


def _certificate(not_after: datetime) -> Check:
    days = (not_after - datetime.now(UTC)).total_seconds() / 86400
    status = Status.OK if days >= _MIN_DAYS else Status.WARNING
    remedy = "" if status is Status.OK else "ask the coordinator for a new certificate"
    return Check(name="certificate", status=status, detail=f"valid for {days:.0f} days", remedy=remedy)


def _clock(date: str | None) -> Check:
    if date is None:
        return Check(name="clock", status=Status.WARNING, detail="the server does not tell the time", remedy="check it")
    seconds = abs((datetime.now(UTC) - email.utils.parsedate_to_datetime(date)).total_seconds())
    if seconds > _MAX_CLOCK_SECONDS:
        detail = f"{seconds:.0f} s from the server's"
        return Check(name="clock", status=Status.FAILED, detail=detail, remedy="set the clock, best by NTP")
    return Check(name="clock", status=Status.OK, detail=f"within {max(1.0, seconds):.0f} s of the server's")


def _versions() -> Check:
    packages = ", ".join(f"{name} {version(name)}" for name in ("flwr", "torch", "opacus"))
    return Check(name="versions", status=Status.OK, detail=packages)
