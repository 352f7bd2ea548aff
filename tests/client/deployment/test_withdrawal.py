"""A patient who withdrew takes part in nothing any more, and nothing that was computed from her images is left."""

import json

import cv2
import numpy as np
import pytest

from client.app import app
from client.data.dataset import load_all_lesions
from client.data.network_inputs import load_network_inputs
from client.data.splits import Role
from client.deployment.desk import Desk
from client.deployment.initialisation import initialise
from client.deployment.own_patients import own_data
from client.deployment.withdrawal import withdraw
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Reserved
from client.privacy.policy import SitePolicy
from client.site import SiteSettings
from shared_model.config import compose
from shared_model.errors import ConfigError, LedgerError
from shared_model.system.audit_log import read
from simulations.commands.app import main
from tests.hospital_kits import rows_of

PATIENTS = [f"P{number:05d}" for number in range(48)]
PIXELS = ("model.backbone=small_cnn", "data.image.size=32", "model.image_components=0")
"""An input that needs no encoder."""


@pytest.fixture
def with_images(kit):
    """A hospital each of whose patients has an image of her own: constant, of her number."""
    rows = rows_of(PATIENTS, num_test=5)
    for number, row in enumerate(rows):
        row["image_path"] = f"{number}.png"
        cv2.imwrite(str(kit.table.parent / row["image_path"]), image_of(number))
    kit.write_table(rows)
    kit.change_policy(fields={})
    initialise(kit.site)
    return kit


def image_of(number):
    return np.random.default_rng(number).integers(0, 255, (50, 50)).astype(np.uint8)


def ledger_of(kit):
    return Ledger(kit.site.ledger)


def data_of(kit):
    return own_data(kit.site, SitePolicy.load(kit.site.policy), ledger_of(kit))


def cache_of(kit, *overrides):
    """Fill the cache for one configuration, and return its configuration."""
    config = compose(["data.root=.", "federation.sites=[MGH]", "federation.min_sites=1", *PIXELS, *overrides])
    settings = SiteSettings.from_node_config(kit.site.node_config, config)
    load_network_inputs(data_of(kit).table.frame, settings.config, lambda *_: None)
    return settings.config


def files_on_disk(kit):
    """Every file under the state folder, whatever it is called."""
    return [path.read_bytes() for path in kit.site.state_dir.rglob("*") if path.is_file()]


def is_on_disk(kit, array):
    return any(array.tobytes() in content for content in files_on_disk(kit))


def inputs_of(kit, config):
    frame = data_of(kit).table.frame
    images = load_network_inputs(frame, config, lambda *_: None).images
    return dict(zip(frame["patient_id"], images, strict=True))


class TestCache:
    def test_her_images_are_gone_and_those_of_others_stay(self, with_images):
        configs = [cache_of(with_images), cache_of(with_images, "data.image.size=40")]
        before = [inputs_of(with_images, config) for config in configs]
        assert all(is_on_disk(with_images, inputs["P00007"]) for inputs in before)
        done = withdraw(with_images.site, "p 7")
        assert done.num_erased == 2
        for inputs in before:
            assert not is_on_disk(with_images, inputs["P00007"])
            assert all(is_on_disk(with_images, inputs[patient]) for patient in PATIENTS if patient != "P00007")

    @pytest.mark.parametrize("what", ["row", "file", "both"])
    def test_it_does_not_matter_whether_her_files_are_still_there(self, with_images, what):
        config = cache_of(with_images)
        hers = inputs_of(with_images, config)["P00007"]
        if what in ("row", "both"):
            rows = [row for row in rows_of(PATIENTS, num_test=5) if row["patient_id"] != "P00007"]
            for row in rows:
                row["image_path"] = f"{int(row['patient_id'][1:])}.png"
            with_images.write_table(rows)
        if what in ("file", "both"):
            (with_images.table.parent / "7.png").unlink()
        withdraw(with_images.site, "P00007")
        assert not is_on_disk(with_images, hers)

    def test_tables_that_cannot_be_read_cost_the_whole_cache(self, with_images, capsys):
        cache_of(with_images)
        with_images.table.unlink()
        assert main(["site", "forget", "P00007", "--site", str(with_images.path)]) == 0
        assert "the whole image cache was erased" in capsys.readouterr().out
        assert not list(with_images.site.state_dir.rglob("entries"))
        assert ledger_of(with_images).history().forgotten

    def test_nothing_of_her_is_computed_again(self, with_images):
        config = cache_of(with_images)
        hers = inputs_of(with_images, config)["P00007"]
        withdraw(with_images.site, "P00007")
        cache_of(with_images)
        load_all_lesions(data_of(with_images).table, config)
        assert not is_on_disk(with_images, hers)

    def test_what_a_request_under_way_still_wrote_goes_with_the_next(self, with_images):
        """It read the table before she withdrew, and stores her image after."""
        frame = data_of(with_images).table.frame
        config = cache_of(with_images)
        withdraw(with_images.site, "P00007")
        images = load_network_inputs(frame, config, lambda *_: None).images
        hers = images[list(frame["patient_id"]).index("P00007")]
        assert is_on_disk(with_images, hers)
        with_images.change_policy(backbones=["small_cnn"], views="own")
        assert not with_images.ask("model.modality=image", "data.views=own", *PIXELS).has_error()
        assert not is_on_disk(with_images, hers)


class TestRunningProcess:
    def test_it_notices_at_its_next_request(self, begun):
        desk = Desk.open(begun.site, app)
        assert not begun.ask(desk=desk).has_error()
        withdraw(begun.site, "P00007")
        assert not begun.ask(server_round=2, desk=desk).has_error()
        ledger = ledger_of(begun)
        history = ledger.history()
        first, second = (entry.content for entry in history.entries if isinstance(entry.content, Reserved))
        assert history.members[first.cohort] - history.members[second.cohort] == {ledger.pseudonym("P00007")}
        assert history.members[second.cohort] < history.members[first.cohort]

    def test_new_patients_take_part_from_the_next_request_on(self, begun):
        desk = Desk.open(begun.site, app)
        assert not begun.ask(desk=desk).has_error()
        begun.write_table(rows_of([*PATIENTS, "newcomer"], num_test=5))
        assert not begun.ask(server_round=2, desk=desk).has_error()
        ledger = ledger_of(begun)
        history = ledger.history()
        first, second = (entry.content for entry in history.entries if isinstance(entry.content, Reserved))
        assert history.members[second.cohort] - history.members[first.cohort] == {ledger.pseudonym("newcomer")}

    def test_too_few_are_answered_all_the_same_and_are_an_alarm(self, begun, caplog):
        desk = Desk.open(begun.site, app)
        for patient in PATIENTS[-4:]:
            withdraw(begun.site, patient)
        assert not begun.ask(desk=desk).has_error()
        assert "Alarm: 39 training patients, below declared_patients=40" in caplog.text
        assert [line.event for line in read(begun.site.audit_log)][-2:] == ["reply", "alarm"]


class TestCommand:
    def test_what_she_has_spent_stays_spent(self, begun, capsys):
        assert not begun.ask().has_error()
        before = ledger_of(begun).history()
        assert main(["site", "forget", "P00007", "--site", str(begun.path)]) == 0
        assert "stays spent" in capsys.readouterr().out
        after = ledger_of(begun).history()
        assert after.entries[: len(before.entries)] == before.entries
        assert after.members == before.members

    def test_an_identifier_that_nobody_knows_is_said(self, begun, capsys):
        assert main(["site", "forget", "P77777", "--site", str(begun.path)]) == 0
        assert "Neither the ledger nor a table knows this identifier" in capsys.readouterr().out

    def test_her_identifier_is_written_nowhere(self, begun, capsys):
        withdraw(begun.site, "P00007")
        (line,) = [line for line in read(begun.site.audit_log) if line.event == "patient_forgotten"]
        assert line.facts["patient"] == ledger_of(begun).pseudonym("P00007").hex()
        assert "P00007" not in begun.site.audit_log.read_text()
        assert json.loads(begun.site.audit_log.read_text().splitlines()[-1])["facts"]["ledger_head"]

    def test_an_identifier_that_is_none(self, begun):
        with pytest.raises(ConfigError, match="Expected an identifier that names a patient"):
            withdraw(begun.site, "unknown")

    def test_the_ledger_must_be_the_sites_own(self, begun):
        Ledger.create(begun.folder / "other.sqlite")
        begun.change(ledger="other.sqlite")
        with pytest.raises(LedgerError, match="correct the path"):
            withdraw(begun.site, "P00007")

    def test_twice_is_once(self, begun):
        withdraw(begun.site, "P00007")
        before = ledger_of(begun).history()
        withdraw(begun.site, "p 7")
        assert ledger_of(begun).history() == before
        assert "P00007" not in data_of(begun).patients(*Role)
