"""What a site's readings add up to: counts of patients that can be checked by hand, and exact intervals."""

import dataclasses

import pytest
from scipy.stats import binom

from client.data.preprocessing import Box
from client.reader_page.kept import KeptReading, Known, Opinion, Verdict
from client.reader_page.since_release import Share, since_release
from client.reading.request import LesionRequest, Picture
from client.reading.result import Band, Outcome
from shared_model.metrics.intervals import ConfidenceInterval


@pytest.fixture(scope="module")
def read_one(room):
    """A reading with a probability, of which others are made."""
    x, y, width, height = room.boxes["CC"]
    picture = Picture(path=room.films / "leftCC.dcm", box=Box(x=x, y=y, width=width, height=height))
    return room.reader.read(LesionRequest(pictures=(picture,)))


@pytest.fixture
def kept(read_one):
    def make(patient, probability, *, pathology=None, verdict=None, digest=None):
        answer = dataclasses.replace(
            read_one.answer,
            probability=probability,
            interval=ConfidenceInterval(low=probability, high=probability),
            is_above_threshold=probability >= read_one.answer.threshold,
            band=Band.of(probability),
        )
        release = dataclasses.replace(read_one.release, digest=digest or read_one.release.digest)
        opinions = () if verdict is None else (Opinion(time="", user="", verdict=verdict, why=""),)
        return KeptReading(
            reading=dataclasses.replace(read_one, answer=answer, release=release),
            study="s",
            patient=patient,
            time="",
            user="",
            opinions=opinions,
            pathology=pathology,
            pathology_time="",
            pathology_user="",
        )

    return make


def test_every_patient_counts_once_with_the_newest_reading(kept, read_one):
    newest_first = [
        kept("a", 0.95),
        kept("a", 0.05, pathology=Known.MALIGNANT),
        kept("b", 0.05, pathology=Known.BENIGN, verdict=Verdict.AGREE),
        kept("b", 0.95, pathology=Known.BENIGN, verdict=Verdict.DISAGREE),
        kept("c", 0.96, pathology=Known.BENIGN, verdict=Verdict.DISAGREE),
        kept("d", 0.5, digest="0" * 64),
    ]
    found = since_release(newest_first, read_one.release.digest, None)
    assert found.by_outcome == {Outcome.READ: 5}
    assert found.num_patients == 3
    assert [each.here for each in found.bins] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.called_malignant == Share(count=2, total=3)
    assert found.agreed == Share(count=1, total=2)
    assert found.sensitivity == Share(count=0, total=1)
    assert found.specificity == Share(count=1, total=2)
    assert found.bins[0].public_benign is None


def test_nobody_gives_no_share(read_one):
    found = since_release([], read_one.release.digest, None)
    assert (found.num_patients, found.sensitivity, found.called_malignant) == (0, None, None)


@pytest.mark.parametrize(("count", "total"), [(0, 7), (7, 7), (3, 11), (40, 50)])
def test_an_interval_leaves_out_what_is_too_unlikely_on_either_side(count, total):
    interval = Share(count=count, total=total).interval
    if count:
        assert binom.sf(count - 1, total, interval.low) == pytest.approx(0.025)
    else:
        assert interval.low == 0
    if count < total:
        assert binom.cdf(count, total, interval.high) == pytest.approx(0.025)
    else:
        assert interval.high == 1


def test_the_page_shows_it(page):
    text = page.client.get("/since").text
    assert "This site since the release" in text
    assert "Sensitivity" in text
    assert "PH-0001" not in text
