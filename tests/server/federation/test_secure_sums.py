"""Secure sums between real hospitals: the sum is that of the values before masking, whoever drops out, and when."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Purpose, Reserved
from client.secure_sum import release
from server.federation import secure_sums
from server.federation.sum_state import SUM_FILE
from shared_model.errors import RoundError
from shared_model.messages.sum_parts import AGREE, SHARES, UNMASK
from shared_model.messages.types import SCORES
from shared_model.secure_sum.masks import mask
from tests.summing_hospitals import NAMES, make_consortium, quietly, train

KINDS = (SHARES, "train", AGREE, UNMASK)


@pytest.fixture(autouse=True)
def quiet():
    with quietly():
        yield


@pytest.fixture
def before_masking(monkeypatch):
    """The values of every release before they are masked, by round and site."""
    values = {}

    def note(words, seeds, participants, site):
        # An empty vector asks whether masking would refuse.
        if words.size:
            values[participants.server_round, site] = words.copy()
        return mask(words, seeds, participants, site)

    monkeypatch.setattr(release, "mask", note)
    return values


@pytest.fixture
def opened(monkeypatch):
    """Every sum that was opened: the words, and whose."""
    sums = []
    unmask = secure_sums.unmask

    def note(total, participants, survivors, own_seeds, mask_seeds):
        words = unmask(total, participants, survivors, own_seeds, mask_seeds)
        sums.append((participants.server_round, tuple(sorted(survivors)), words))
        return words

    monkeypatch.setattr(secure_sums, "unmask", note)
    return sums


def require_plain_sums(opened, before_masking):
    for server_round, survivors, words in opened:
        plain = np.zeros_like(words)
        for site in survivors:
            plain += before_masking[server_round, site]
        np.testing.assert_array_equal(words, plain)


def test_a_run_opens_the_plain_sums_of_all_sites_in_every_round(tmp_path, before_masking, opened):
    consortium = make_consortium(tmp_path)
    finished, grid = train(consortium, consortium.config())
    # Two rounds of training, the histogram of training scores, those of test and validation scores.
    assert [(server_round, survivors) for server_round, survivors, _ in opened] == [(r, NAMES) for r in (1, 2, 3, 4)]
    require_plain_sums(opened, before_masking)
    assert finished.last.metrics is not None
    assert not finished.last.failures
    # Three messages a round more than without secure sums, and one a run.
    per_site = [kind for site, kind, *_ in grid.seen if site == "A"]
    assert len(per_site) == 1 + 4 * 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["request", "reply"])
def test_one_site_may_drop_out_at_any_message_of_a_round(tmp_path, before_masking, opened, kind, what):
    consortium = make_consortium(tmp_path)

    def lost(site, asked, number):
        gone = KINDS[KINDS.index(kind) :]
        return what if site == "B" and asked in gone and number == 0 else None

    train(consortium, consortium.config(), lost=lost)
    require_plain_sums(opened, before_masking)
    first = opened[0]
    assert first[0] == 1
    assert ("B" in first[1]) == (kind in {AGREE, UNMASK})


def test_fewer_sites_than_agreed_open_no_sum(tmp_path, opened):
    consortium = make_consortium(tmp_path)

    def lost(site, kind, _):
        return "request" if site in "AB" and kind == "train" else None

    with pytest.raises(RoundError, match="at least 3 valid replies"):
        train(
            consortium,
            consortium.config(),
            lost=lost,
        )
    assert not opened


@pytest.mark.parametrize("kind", [*KINDS, SCORES, "evaluate"])
@pytest.mark.parametrize("what", ["request", "reply"])
def test_a_server_that_is_killed_at_any_message_goes_on_with_the_same_sum_and_at_no_new_cost(
    tmp_path, before_masking, opened, kind, what
):
    class KilledError(Exception):
        pass

    def lost(site, asked, _):
        if asked == kind and site == "C":
            if what == "reply":
                return "reply"
            raise KilledError
        return None

    def killed_after(site, asked, number):
        # The reply of C was made and is lost; then the server dies, at the next message.
        if what == "reply" and (asked, site) != (kind, "C") and lost.__dict__.get("was_lost"):
            raise KilledError
        found = lost(site, asked, number)
        lost.__dict__["was_lost"] = found == "reply"
        return found

    consortium = make_consortium(tmp_path)
    config = consortium.config()
    with pytest.raises(KilledError):
        train(consortium, config, lost=killed_after)
    train(consortium, config)
    require_plain_sums(opened, before_masking)
    for hospital in consortium.hospitals.values():
        contents = [entry.content for entry in read_history(hospital.ledger).entries]
        reserved = [content for content in contents if isinstance(content, Reserved)]
        assert [content.purpose for content in reserved] == [Purpose.TRAINING] * 3 + [Purpose.EVALUATION]


def test_a_site_that_lies_ends_the_run_and_does_not_steer_it(tmp_path, monkeypatch):
    consortium = make_consortium(tmp_path)

    def lie(words, seeds, participants, site):
        lies = words + np.uint32(2**30) if site == "B" else words
        return mask(lies, seeds, participants, site)

    monkeypatch.setattr(release, "mask", lie)
    with pytest.raises(RoundError, match="a site lies or sent wrong shares"):
        train(consortium, consortium.config())


def test_the_noise_of_the_opened_sum_is_that_of_the_plan_or_more(tmp_path, monkeypatch):
    consortium = make_consortium(tmp_path)
    sums = []
    secure_sum = secure_sums.secure_sum

    def note(*arguments, **options):
        sums.append(secure_sum(*arguments, **options))
        return sums[-1]

    for user in ("cohort_sums", "summed_update", "site_evaluation"):
        monkeypatch.setattr(f"server.federation.{user}.secure_sum", note)
    config = consortium.config("training.num_rounds=1", min_sites=3)
    train(consortium, config)
    reserved = next(
        entry.content
        for entry in read_history(consortium.hospitals["A"].ledger).entries
        if isinstance(entry.content, Reserved)
    )
    whole, own = reserved.mechanism.noise_multiplier, reserved.own_share.noise_multiplier
    # All four sites took part, of which three are enough.
    assert own * np.sqrt(3) >= whole
    np.testing.assert_allclose(sums[0].noise_std, own * 2 * reserved.max_grad_norm)
    assert sums[0].num_patients == 80


def test_the_state_of_a_run_that_is_over_is_gone_only_with_its_checkpoint(tmp_path):
    consortium = make_consortium(tmp_path)
    config = consortium.config()
    train(consortium, config)
    assert (Path(config.run.dir) / SUM_FILE).exists()
    other = dataclasses.replace(config, seed=1)
    with pytest.raises(Exception, match="same configuration"):
        train(consortium, other)
