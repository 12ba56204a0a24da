"""The running app: loads the models, starts the threads, watches over them, and ends them in order."""

from __future__ import annotations

import logging
import platform
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import edgesdk
from edgesdk.app.capture import Backoff, Capture
from edgesdk.app.config import AppConfig, StreamConfig, device_id, source_kind
from edgesdk.app.events import Event, HealthEvent
from edgesdk.app.inference import Done, Inference
from edgesdk.app.loading import load_config
from edgesdk.app.publishing import Publisher
from edgesdk.app.queues import SampleQueue, default_policy
from edgesdk.app.sound import at_models_rate
from edgesdk.app.stats import AppStats, StreamStats
from edgesdk.errors import EdgeSdkError
from edgesdk.samples import Sample
from edgesdk.sources import Source, make_source

if TYPE_CHECKING:
    from edgesdk.model import Model
    from edgesdk.telemetry import Stats, Telemetry

logger = logging.getLogger("edgesdk.app")

STOP_TIMEOUT_S = 10.0
"""For what is in the queues when the app stops; then it is thrown away, and said."""
FLUSH_TIMEOUT_S = 5.0
"""For the network, after that. What is not delivered by then stays in the outbox for the next run."""

OnEvent = Callable[[Event], None]


class App:
    """Runs an app.yaml once.

    Args:
        config: Read and checked.
        on_event: Called with every event, from the app's own threads, one call at a time. It should be quick; what
            it raises is logged and otherwise ignored.
        device: Instead of the configuration's.
        backoff: How lost sources are retried.

    Attributes:
        failure: Why :meth:`run` returned 1; empty otherwise.
    """

    def __init__(
        self,
        config: AppConfig,
        *,
        on_event: OnEvent | None = None,
        device: str | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.config = config
        self.device = device_id(device or config.device)
        self.failure = ""
        self._on_event = on_event
        self._backoff = backoff
        self._event_lock = threading.Lock()
        self._models: dict[tuple[str, str], Model] = {}
        self._captures: list[Capture] = []
        self._inferences: list[Inference] = []
        self._publisher: Publisher | None = None
        self._telemetry: Telemetry | None = None
        self._last_telemetry: Stats | None = None
        self._started_s = time.monotonic()
        self._last_counts: tuple[float, dict[str, int]] = (self._started_s, {})
        self._rates_hz: dict[str, float] = {}
        self._stop_requests = 0
        self._ended: list[str] = []
        self._faults: list[str] = []
        self._wakers: tuple[socket.socket, socket.socket] | None = None
        self._ran = False
        self._finishing = False

    @classmethod
    def from_yaml(cls, path: str | Path, *, on_event: OnEvent | None = None, device: str | None = None) -> App:
        """Read an app.yaml.

        Args:
            path: The file.
            on_event: See the class.
            device: Instead of the file's ``device``.

        Raises:
            ConfigError: All its problems at once, with file and line.
        """
        return cls(load_config(Path(path)), on_event=on_event, device=device)

    def run(self) -> int:
        """Run until all sources have ended, :meth:`stop`, SIGTERM or SIGINT; the last results are flushed.

        A second signal (or stop) ends at once. Signals are handled where this is the main thread.

        Returns:
            0, or 1 with the reason in :attr:`failure`: something could not be loaded or opened (then nothing was
            started), a source was given up, results could not be written to the disk, or a part of the app itself failed.
        """
        if self._ran:
            raise RuntimeError("this App has run already; make a new one with App.from_yaml")
        self._ran = True
        self._wakers = socket.socketpair()
        self._wakers[1].setblocking(False)
        previous = self._catch_signals()
        try:
            self._prepare()
            if not self._stop_requests:
                self._start()
                self._watch()
        except EdgeSdkError as error:
            self._fail(str(error))
        finally:
            self._finish()
            for number, handler in previous.items():
                signal.signal(number, handler)
            for end in self._wakers:
                end.close()
        for reason in self._faults:
            self._fail(reason)
        return 1 if self.failure else 0

    def stop(self) -> None:
        """Ask the app to end; from any thread or signal handler. The second time it throws away what is queued."""
        self._stop_requests += 1
        self._wake()

    def stats(self) -> AppStats:
        """Counts so far; also after the end."""
        telemetry = self._telemetry
        return AppStats(
            uptime_s=time.monotonic() - self._started_s,
            sources={one.name: replace(one.stats) for one in self._captures},
            streams={
                one.stream: StreamStats(
                    policy=one.queue.policy,
                    accepted=one.queue.accepted,
                    dropped=one.queue.dropped,
                    waiting=len(one.queue),
                    rate_hz=self._rates_hz.get(one.stream, 0.0),
                    models={name: replace(stats) for name, stats in one.stats.items()},
                )
                for one in self._inferences
            },
            telemetry=self._last_telemetry or (telemetry.stats() if telemetry is not None else None),
            descriptions={one.name: one.source.description for one in self._captures},
        )

    # -- beginning -------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Load and open everything that can fail for good, before anything starts."""
        sources = {
            name: make_source(source_kind(options), options)
            for name, options in self.config.sources.items()
            if any(stream.source == name for stream in self.config.streams.values())
        }
        for stream_name, stream in self.config.streams.items():
            for model in stream.run:
                if self._stop_requests:
                    return
                self._models[stream_name, model] = self._load(model)
        for name, source in sources.items():
            heard_by = [m for (at, _), m in self._models.items() if self.config.streams[at].source == name]
            sources[name] = at_models_rate(source, self.config.sources[name], heard_by)
        queues = {
            name: SampleQueue[Sample](stream.policy or default_policy(sources[stream.source]), stream.queue)
            for name, stream in self.config.streams.items()
        }
        self._telemetry = self._make_telemetry(sources)
        self._inferences = [self._inference(name, stream, queues[name]) for name, stream in self.config.streams.items()]
        for name, source in sources.items():
            fed = [queues[stream] for stream, config in self.config.streams.items() if config.source == name]
            self._captures.append(Capture(name, source, fed, emit=self._emit, backoff=self._backoff))
        for capture in self._captures:
            if not capture.source.live:
                capture.open_first()

    def _load(self, name: str) -> Model:
        from edgesdk.model import load

        config = self.config.models[name]
        try:
            return load(*config.files, backend=config.backend, variant=config.variant, threads=config.threads)
        except EdgeSdkError as error:
            files = ", ".join(map(str, config.files))
            raise EdgeSdkError(f"model {name!r} ({files}) cannot be loaded: {error}") from error

    def _make_telemetry(self, sources: dict[str, Source]) -> Telemetry:
        from edgesdk.telemetry import Telemetry

        capability = {
            "edgesdk": edgesdk.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "models": {
                name: self._identity(stream, name)
                for stream, config in self.config.streams.items()
                for name in config.run
            },
            "sources": {name: source.description for name, source in sources.items()},
            "streams": {
                name: {"source": stream.source, "run": list(stream.run)} for name, stream in self.config.streams.items()
            },
        }
        return Telemetry(self.config.telemetry, device=self.device, app=self.config.name, capability=capability)

    def _identity(self, stream: str, name: str) -> dict[str, Any]:
        model = self._models[stream, name]
        return {"id": name, "name": model.name, "version": model.version, "bundles": dict(model.identities)}

    def _inference(self, name: str, stream: StreamConfig, queue: SampleQueue[Sample]) -> Inference:
        return Inference(
            name,
            queue,
            {model: self._models[name, model] for model in stream.run},
            deadline_s=stream.deadline_s,
            deliver=self._deliver,
            emit=self._emit,
            ended=lambda error: self._on_ended(f"inference of stream {name!r}", error),
        )

    def _start(self) -> None:
        assert self._telemetry is not None
        self._telemetry.start()
        keys = [(stream, model) for stream, config in self.config.streams.items() for model in config.run]
        self._publisher = Publisher(
            self._telemetry,
            settings={name: stream.publish for name, stream in self.config.streams.items()},
            stats={(one.stream, name): stats for one in self._inferences for name, stats in one.stats.items()},
            identities={key: self._identity(*key) for key in keys},
            emit=self._emit,
            ended=self._on_publisher_ended,
        )
        self._started_s = time.monotonic()
        self._publisher.start()
        for inference in self._inferences:
            inference.start()
        for capture in self._captures:
            capture.start()

    # -- running ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        assert self._wakers is not None
        woken = self._wakers[0]
        every_s = self.config.health.every_s
        due_s = time.monotonic() + min(every_s, 5.0)  # the first one soon, so that a backend sees the app
        while not self._stop_requests and not self._faults and len(self._ended) < len(self._inferences):
            ready, _, _ = select.select([woken], [], [], max(0.0, due_s - time.monotonic()))
            if ready:
                woken.recv(4096)
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + every_s
                self._report()

    def _report(self) -> None:
        """Publish one health report."""
        now_s = time.monotonic()
        then_s, before = self._last_counts
        counts = {one.stream: sum(stats.results for stats in one.stats.values()) for one in self._inferences}
        passed_s = max(now_s - then_s, 1e-3)
        self._rates_hz = {name: round((count - before.get(name, 0)) / passed_s, 2) for name, count in counts.items()}
        self._last_counts = (now_s, counts)
        health = self.stats().to_json()
        if self._telemetry is not None:
            try:
                self._telemetry.health(health)
            except EdgeSdkError as error:
                logger.warning("health report not sent: %s", error)
        self._emit(HealthEvent(health=health))

    def _deliver(self, done: Done) -> None:
        assert self._publisher is not None
        self._publisher.deliver(done)

    def _emit(self, event: Event) -> None:
        if self._on_event is None:
            return
        while not self._event_lock.acquire(timeout=0.5):
            if self._stop_requests or self._finishing:
                # A listener that never returns (a pipe that nobody reads) must not keep the app from ending.
                logger.warning("on_event is busy with another event; %s is not told", type(event).__name__)
                return
        try:
            self._on_event(event)
        except Exception:
            logger.exception("on_event failed with %s", type(event).__name__)
        finally:
            self._event_lock.release()

    def _on_ended(self, what: str, error: BaseException | None) -> None:
        if error is not None:
            logger.error("%s failed", what, exc_info=error)
            self._faults.append(f"{what} failed: {type(error).__name__}: {error}")
        self._ended.append(what)  # append is atomic, += of a count is not
        self._wake()

    def _on_publisher_ended(self, error: BaseException | None) -> None:
        if error is not None:
            logger.error("publishing failed", exc_info=error)
            self._faults.append(f"publishing failed: {type(error).__name__}: {error}")
            self._wake()

    def _wake(self) -> None:
        # A socket and no threading.Event: a signal handler may run inside the Event's own lock. A socket and no pipe: it
        # may be closed by now, and the number of a closed pipe may be somebody else's file already.
        if self._wakers is not None:
            with suppress(OSError):
                self._wakers[1].send(b"!")

    def _catch_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}

        def on_signal(number: int, frame: FrameType | None) -> None:
            del number, frame
            self.stop()

        return {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}

    # -- ending ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """End everything in the order in which samples flow, so that nothing that was captured is lost."""
        self._finishing = True
        until_s = time.monotonic() + STOP_TIMEOUT_S
        for capture in self._captures:
            with suppress_errors(f"stopping source {capture.name}"):
                capture.stop()
        for inference in self._inferences:
            inference.queue.close()  # also wakes a capture that waits for a place
        self._join([capture.join for capture in self._captures], until_s, "a source")
        done = self._join([inference.join for inference in self._inferences], until_s, "a model")
        if not done:
            for inference in self._inferences:
                inference.queue.abort()
        self._finish_publisher(until_s, at_once=not done)
        if not done:
            self._join(
                [inference.join for inference in self._inferences], time.monotonic() + 2.0, "a model", force=True
            )
        self._note_given_up()
        if self._telemetry is not None:
            if self._publisher is not None:
                self._report()
            with suppress_errors("closing the outbox"):
                at_once = self._publisher is None or self._stop_requests > 1
                self._last_telemetry = last = self._telemetry.close(0.0 if at_once else FLUSH_TIMEOUT_S)
                if last.queued:
                    self._fail(
                        f"{last.queued} results are lost: they could not be written to the outbox. {last.problem or ''}"
                    )
        for capture in self._captures:
            with suppress_errors(f"closing source {capture.name}"):
                capture.close()
        for model in self._models.values():
            with suppress_errors(f"closing model {model.name}"):
                model.close()

    def _finish_publisher(self, until_s: float, *, at_once: bool) -> None:
        publisher = self._publisher
        if publisher is None:
            return
        if at_once:
            publisher.abort()
        else:
            publisher.close()
        if not self._join([publisher.join], max(until_s, time.monotonic() + 1.0), "the outbox"):
            publisher.abort()
            publisher.join(1.0)

    def _join(self, joins: list[Callable[[float], bool]], until_s: float, what: str, *, force: bool = False) -> bool:
        """Wait for threads; False at a second stop, or when the time is over."""
        for join in joins:
            while not join(0.1):
                if self._stop_requests > 1 and not force:
                    return False
                if time.monotonic() > until_s:
                    logger.error("%s did not end in time; what it still had is thrown away", what)
                    return False
        return True

    def _note_given_up(self) -> None:
        given_up = [capture for capture in self._captures if capture.stats.state == "failed"]
        for capture in given_up:
            self._fail(f"source {capture.name!r} was given up: {capture.stats.reason}")

    def _fail(self, reason: str) -> None:
        self.failure = f"{self.failure}\n{reason}" if self.failure else reason


@contextmanager
def suppress_errors(what: str) -> Iterator[None]:
    """Goes on after an error while ending: the rest has to be closed as well. The error is logged."""
    try:
        yield
    except Exception:
        logger.exception("%s failed", what)
