"""What a site's readings add up to: counts of patients that can be checked by hand, and exact intervals."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom

from client.data.preprocessing import Box
from client.deployment.reader_section import RecalibrationSection
from client.reader_page import pages
from client.reader_page.kept import KeptReading, Known, Opinion, Verdict
from client.reader_page.since_release import Share, local_recalibration, since_release
from client.reading.request import LesionRequest, Picture
from client.reading.result import Band, Outcome
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.release.document import Abstention, GreyContract, MeasuredCoverage, PublicReference


@pytest.fixture(scope="module")
def read_one(room):
    """A reading with a probability, of which others are made."""
    x, y, width, height = room.boxes["CC"]
    picture = Picture(path=room.films / "leftCC.dcm", box=Box(x=x, y=y, width=width, height=height))
    return room.reader.read(LesionRequest(pictures=(picture,)))


@pytest.fixture
def kept(read_one):
    def make(patient, probability, *, pathology=None, verdict=None, digest=None, levels=None):
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
            reading=dataclasses.replace(
                read_one,
                answer=answer,
                release=release,
                views=(dataclasses.replace(read_one.views[0], grey_levels=levels or read_one.views[0].grey_levels),),
            ),
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


def test_each_patient_is_looked_up_a_few_times_however_many_there_are(kept, read_one):
    class Patient(str):
        num_looked_up = 0
        __slots__ = ()

        def __hash__(self):
            Patient.num_looked_up += 1
            return super().__hash__()

    readings = [kept(Patient(number), 0.2, pathology=Known.BENIGN) for number in range(100)]
    assert since_release(readings, read_one.release.digest, None).known == Share(count=100, total=100)
    assert Patient.num_looked_up < 20 * len(readings)


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
    assert (found.known, found.malignant) == (Share(count=3, total=3), Share(count=1, total=3))
    assert (found.scores, found.grey, found.local) == ((), (), None)


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
    assert "those on which it abstained, or which it refused, are in neither" in text
    assert "PH-0001" not in text


def public_scores(benign, malignant):
    measured = MeasuredCoverage(
        num_benign=1, num_malignant=1, coverage=1.0, coverage_benign=1.0, coverage_malignant=1.0, abstained=0.0,
        coverage_interval=None, coverage_benign_interval=None, coverage_malignant_interval=None,
        abstained_interval=None,
    )  # fmt: skip
    abstention = Abstention(
        level=0.9, benign_scores=tuple(benign), malignant_scores=tuple(malignant), measured=measured
    )
    return PublicReference(source="x", overlaps_training=False, abstention=abstention, novelty=None)


def test_scores_that_moved_are_told_from_another_share_of_cancers(page, kept, read_one):
    rng = np.random.default_rng(0)
    benign, malignant = rng.beta(2, 6, 300), rng.beta(6, 2, 300)
    public, digest = public_scores(benign, malignant), read_one.release.digest
    # One in ten malignant, where half of the public ones are.
    same = [kept(f"s{number}", float(score)) for number, score in enumerate([*rng.beta(2, 6, 90), *rng.beta(6, 2, 10)])]
    moved = [kept(f"m{number}", float(score)) for number, score in enumerate(rng.uniform(0.97, 1, 100))]
    assert [row.has_moved for row in since_release(same, digest, public).scores] == [False, False, False]
    of_all, *of_known = since_release(moved, digest, public).scores
    assert of_all.has_moved
    text = pages.since_release(page.desk, since_release(moved, digest, public), user="ada")
    assert text.count('<tr class="moved">') == 1
    assert [(row.num_here, row.found) for row in of_known] == [(0, None), (0, None)]
    assert since_release(moved[:29], digest, public).scores[0].found is None


def test_grey_levels_are_of_one_picture_of_every_patient(kept, read_one):
    names = ("dark", "middle", "bright", "contrast", "white")
    rng = np.random.default_rng(0)
    values = {name: tuple(sorted(rng.uniform(0.4, 0.6, 80))) for name in names}
    grey = GreyContract(
        num_pictures=80, lowest=dict.fromkeys(names, 0.0), highest=dict.fromkeys(names, 1.0), values=values
    )
    levels = [{name: 0.9 if name == "middle" else float(rng.uniform(0.4, 0.6)) for name in names} for _ in range(40)]
    readings = [kept(f"p{number}", 0.5, levels=each) for number, each in enumerate(levels)]
    found = since_release(readings * 2, read_one.release.digest, None, grey=grey).grey
    assert [(row.name, row.num_here, row.has_moved) for row in found if row.has_moved] == [("Middle", 40, True)]
    assert found[1].found.distance == 1
    older = [dataclasses.replace(each, reading=dataclasses.replace(each.reading, views=())) for each in readings]
    assert {row.num_here for row in since_release(older, read_one.release.digest, None, grey=grey).grey} == {0}


def test_local_recalibration_waits_for_outcomes_and_leaves_the_patient_out(kept, read_one):
    section, digest = RecalibrationSection(outcomes=20, outcomes_for_slope=100), read_one.release.digest
    readings = [
        kept(f"p{number}", 0.8, pathology=Known.MALIGNANT if number % 2 else Known.BENIGN) for number in range(22)
    ]
    found = since_release(readings[:19], digest, None, recalibration=section).local
    assert (found.num_benign, found.num_malignant, found.fitted) == (10, 9, None)
    fitted = local_recalibration(readings, digest, "p0", section)
    assert (fitted.num_negatives, fitted.num_positives, fitted.is_slope_fitted) == (10, 11, False)
    assert fitted.probability(0.8) == pytest.approx(0.52, abs=0.02)
    assert local_recalibration(readings, digest, "p0", None) is None
    assert local_recalibration(readings, "0" * 64, "p0", section) is None
