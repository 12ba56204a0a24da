"""What every test may ask for: shared data beside the checkout, zoo files, and honest skips."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
CACHE = os.environ.get("EDGESDK_CACHE")
"""Where the zoo's files stay between tests; the tests themselves work in caches of their own."""
SHARED_DATA = CHECKOUT.parent / "shared" / "data"

NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "mosquitto": (
        lambda: shutil.which("mosquitto") is not None or Path("/usr/sbin/mosquitto").exists(),
        "apt-get install mosquitto",
    ),
    "chromium": (lambda: shutil.which("chromium") is not None, "apt-get install chromium"),
    "torch": (lambda: importlib.util.find_spec("torch") is not None, "pip install torch"),
    "zoo": (lambda: importlib.util.find_spec("edgesdk_converters") is not None, "pip install -e ./converters"),
}


def pytest_configure() -> None:
    """A shell gives what it starts in the background a SIGINT that is ignored, and so would every process of the tests have."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, (there, fix) in NEEDS.items():
            if item.get_closest_marker(marker) and not there():
                item.add_marker(pytest.mark.skip(reason=f"needs {marker}: {fix}"))


@pytest.fixture(scope="session")
def kws_data() -> Path:
    """The MLPerf-Tiny-style keyword spotter and its labelled samples."""
    folder = SHARED_DATA / "mlperf-tiny-kws"
    if not folder.is_dir():
        pytest.skip(f"needs the shared test data beside the checkout: ../shared/data/{folder.name} is absent")
    return folder


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], Path]:
    """``zoo(name)`` is the cached file of a zoo model or medium. Without a network it skips, in CI it fails."""
    from edgesdk.errors import ZooError
    from edgesdk_converters.zoo import catalog, fetch, media

    def get(name: str) -> Path:
        try:
            with pytest.MonkeyPatch.context() as patch:
                if CACHE is None:
                    patch.delenv("EDGESDK_CACHE", raising=False)
                else:
                    patch.setenv("EDGESDK_CACHE", CACHE)
                return media(name) if name in catalog().media else fetch(name)
        except ZooError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"the zoo cannot be fetched here: {error}")

    return get
