"""Deals of patients that leave a site unable to train."""

import pytest

from client.data.tables.site_table import read_roster
from shared_model.config.composition import compose
from shared_model.errors import CohortError
from simulations.federation import prepare as module
from simulations.federation.prepare import prepare

pytestmark = pytest.mark.slow


@pytest.fixture
def config(smoke, tmp_path):
    data = [f"data.root={smoke.root}", f"data.cache_dir={smoke.cache}", f"run.dir={tmp_path}"]
    return compose(["preset=smoke", "model.modality=clinical", "federation.partition=iid", *data])


@pytest.fixture
def deals(monkeypatch):
    """Deal everybody to one site as often as ``deals.num_bad`` says, then as the real function does."""
    real = module.assign_sites

    class Deals(list):
        num_bad = 0

    found = Deals()

    def deal(frame, sites, **options):
        owner = real(frame, sites, **options)
        found.append(owner)
        return dict.fromkeys(owner, sites[0]) if len(found) <= found.num_bad else owner

    monkeypatch.setattr(module, "assign_sites", deal)
    return found


def test_are_dealt_again(config, deals):
    deals.num_bad = 2
    prepared = prepare(config, report=lambda *_: None)
    assert len(deals) == 3
    assert read_roster(prepared.config.data) == deals[2]
    assert deals[1] != deals[2]


def test_are_an_error_when_there_is_no_other(config, deals):
    deals.num_bad = 10**6
    with pytest.raises(CohortError, match=r"Site WFU: Expected number of train patients=0 > 0"):
        prepare(config, report=lambda *_: None)
    assert len(deals) == 100
