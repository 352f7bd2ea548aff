"""One small phantom, its cache and one finished run, shared by the tests of whole runs; and no test has a deadline."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine with more to do than it has cores is slow, and not wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files with slow tests first: one that starts last keeps a single worker busy while the others wait."""
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


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
