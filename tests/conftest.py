"""One small phantom, its cache and one finished run, shared by the tests of whole runs; no test has a deadline; and the
order of the files, the longest first.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine with more to do than it has cores is slow, and not wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


DURATIONS = Path(__file__).with_name("durations.json")
"""Seconds of each file that takes more than one, as ``make durations`` measured them."""
_SECONDS_OF_A_SLOW_TEST = 5.0
"""What is reckoned for each in a file that was not measured yet."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-durations", action="store_true", help=f"write {DURATIONS.name} anew from this run")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--write-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Durations())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first: one that starts last keeps a single worker busy while the others wait."""
    seconds = json.loads(DURATIONS.read_text())
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    guesses = {path: _SECONDS_OF_A_SLOW_TEST * count for path, count in num_slow.items()}
    length = {item.path: seconds.get(name_of(item.nodeid), guesses.get(item.path, 0.0)) for item in items}
    items.sort(key=lambda item: -length[item.path])


class Durations:
    """Adds up how long the tests of every file took, fixtures included."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[name_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        long = {name: round(seconds) for name, seconds in self.seconds.most_common() if seconds >= 1}
        DURATIONS.write_text(json.dumps(long, indent=2) + "\n")


def name_of(nodeid: str) -> str:
    """Return the file of a test, as pytest names it from the repository's root."""
    return nodeid.partition("::")[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smoke:
    """The phantom of the smoke preset with its warm cache."""

    root: Path
    cache: Path
    first: Path
    """Run folder of the first run, which wrote phantom and cache."""

    def overrides(self, run_dir: Path, *more: str) -> list[str]:
        return ["preset=smoke", f"data.root={self.root}", f"data.cache_dir={self.cache}", f"run.dir={run_dir}", *more]


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave every picture empty: drawing takes half the time of a small run, and few tests look at one."""
    _leave_pictures_blank(monkeypatch)


@pytest.fixture(scope="module")
def blank_pictures_in_module() -> Iterator[None]:
    """The same for a whole module, its fixtures included."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _leave_pictures_blank(monkeypatch)
        yield


def _leave_pictures_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(content: bytes) -> Callable[..., object]:
        return lambda _canvas, stream, **_: stream.write(content)

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_figure", write(b"\x89PNG"))
    monkeypatch.setattr("matplotlib.backends.backend_svg.FigureCanvasSVG.print_svg", write(b"<svg/>"))


@pytest.fixture(scope="module")
def decoders_stay() -> Iterator[None]:
    """Let all runs of a module share the process that decodes, which each would start and end: half a second."""
    from client.data.dicom.decoder_pool import stop_decoders  # noqa: PLC0415, as below

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("client.data.network_inputs.stop_decoders", lambda: None)
        yield
    stop_decoders()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    from simulations.run import main  # noqa: PLC0415, takes seconds, which the tests of single modules need not wait

    folder = tmp_path_factory.mktemp("smoke")
    made = Smoke(root=folder / "phantom", cache=folder / "cache", first=folder / "first")
    assert main(made.overrides(made.first)) == 0
    return made


@pytest.fixture
def run_smoke(smoke: Smoke, tmp_path: Path) -> Callable[..., Path]:
    """Run the smoke preset with more overrides and return its folder."""
    from simulations.run import main  # noqa: PLC0415, as above

    count = iter(range(100))

    def run(*more: str) -> Path:
        folder = tmp_path / f"run-{next(count)}"
        assert main(smoke.overrides(folder, *more)) == 0
        return folder

    return run
