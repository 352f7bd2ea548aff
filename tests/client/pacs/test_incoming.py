import io
import stat

import pytest
from pydicom import dcmread

from client.pacs.incoming import Incoming, NoRoomError, OtherFilmError, film_of_file
from shared_model.errors import DicomError
from shared_model.vocabulary import View
from tests.pacs_films import STUDY


def changed(path, **values):
    """Return a film's file with other values."""
    film, written = dcmread(path), io.BytesIO()
    for name, value in values.items():
        setattr(film, name, value)
    film.save_as(written)
    return written.getvalue()


@pytest.fixture
def incoming(tmp_path):
    return Incoming(folder=tmp_path / "incoming", max_films=2, max_bytes=10**9)


def test_a_film_is_kept_once_as_it_came_for_its_owner_alone(incoming, films):
    film = film_of_file(films[View.CC].read_bytes())
    assert (incoming.store(film), incoming.store(film)) == (True, False)
    path = incoming.path_of(film.study, film.instance)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (dcmread(path).pixel_array == dcmread(films[View.CC]).pixel_array).all()
    assert film.study not in str(path)


def test_a_second_film_of_the_same_name_does_not_replace_the_first(incoming, films):
    first = film_of_file(films[View.CC].read_bytes())
    incoming.store(first)
    with pytest.raises(OtherFilmError, match="got another of its name"):
        incoming.store(film_of_file(changed(films[View.CC], PatientID="SOMEBODY-ELSE")))
    assert incoming.path_of(first.study, first.instance).read_bytes() == first.content


def test_the_folder_has_bounds(incoming, films, tmp_path):
    for number in (1, 2):
        incoming.store(film_of_file(changed(films[View.CC], SOPInstanceUID=f"1.2.{number}")))
    with pytest.raises(NoRoomError, match="max_films=2"):
        incoming.store(film_of_file(changed(films[View.CC], SOPInstanceUID="1.2.3")))
    small = Incoming(folder=tmp_path / "small", max_films=9, max_bytes=1000)
    with pytest.raises(NoRoomError, match="max_incoming_bytes=1000"):
        small.store(film_of_file(films[View.CC].read_bytes()))


# What pydicom says of values that it writes as they are asked for here.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"StudyInstanceUID": "../../../etc/passwd"}, "StudyInstanceUID to be a UID"),
        ({"SOPInstanceUID": "1." * 40 + "1"}, "SOPInstanceUID to be a UID"),
        ({"SeriesInstanceUID": ""}, "SeriesInstanceUID to be a UID"),
        ({"PatientID": "A\x07B"}, "no control characters"),
        ({"PatientName": "A\x00^B"}, "no control characters"),
        ({"Modality": "CT"}, "Modality MG"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "SOP class of a mammogram"),
    ],
)
def test_films_that_would_harm_are_refused(films, values, message):
    with pytest.raises(DicomError, match=message):
        film_of_file(changed(films[View.CC], **values))


def test_a_patient_identifier_that_looks_like_a_path_is_kept_as_text(incoming, films):
    film = film_of_file(changed(films[View.CC], PatientID="../../up"))
    incoming.store(film)
    assert film.patient == "../../up"
    assert incoming.path_of(STUDY, film.instance).parent.parent == incoming.folder


@pytest.mark.parametrize("cut", [0, 100, 140, 300, 1000])
def test_a_film_that_was_cut_off_is_refused(films, cut):
    with pytest.raises(DicomError, match="Expected"):
        film_of_file(films[View.CC].read_bytes()[:cut])
