"""Source `microphone`: PCM from a sound card, by PortAudio (sounddevice)."""

from __future__ import annotations

import importlib
import queue
import threading
from typing import Any

import msgspec
import numpy as np

from edgesdk.errors import MissingExtraError, SourceError
from edgesdk.samples import Audio, Stamp
from edgesdk.schema import Hertz, Seconds
from edgesdk.sources.base import SourceBase, check_above_zero

READ_TIMEOUT_S = 2.0
HELD_S = 5.0
"""Audio that is held for a reader that is busy; what exceeds it is dropped and shows as a jump of first_sample."""
PORTAUDIO_LINE = "sudo apt-get install libportaudio2"


class MicrophoneOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of kind `microphone`."""

    device: str | int | None = None
    """Part of the device's name, or its index in ``python -m sounddevice``; None is the system's default."""
    rate_hz: Hertz = msgspec.field(name="rate", default=16000.0)
    """Sample rate."""
    block_s: Seconds = msgspec.field(name="block", default=0.1)
    """Length of a block."""

    def __post_init__(self) -> None:
        check_above_zero(rate=round(self.rate_hz), block=self.block_s)


class Microphone(SourceBase):
    """Delivers mono float32 blocks; a block that was lost is a jump of ``first_sample``."""

    Options = MicrophoneOptions
    live = True
    media = "audio"

    def __init__(self, options: MicrophoneOptions) -> None:
        super().__init__(options)
        self.options: MicrophoneOptions = options
        self._stream: Any = None
        self._blocks: queue.Queue[Audio | None] = queue.Queue()
        self._heard = 0
        self._lock = threading.Lock()

    @property
    def rate_hz(self) -> int:
        """Sample rate in whole Hz."""
        return round(self.options.rate_hz)

    @property
    def description(self) -> str:
        """Device and rate."""
        device = "default device" if self.options.device is None else self.options.device
        return f"microphone ({device}) at {self.rate_hz} Hz"

    def open(self) -> None:
        """Start recording.

        Raises:
            MissingExtraError: sounddevice or PortAudio is not installed.
            SourceError: There is no such device, it is busy, or it does not offer the rate.
        """
        sounddevice = _import_sounddevice()
        self.close()
        device = self.options.device
        frames = max(1, round(self.options.block_s * self.rate_hz))
        self._blocks = queue.Queue(maxsize=max(2, round(HELD_S / self.options.block_s)))
        self._heard = 0
        stream: Any = None
        try:
            stream = sounddevice.InputStream(
                samplerate=self.rate_hz,
                blocksize=frames,
                device=int(device) if isinstance(device, str) and device.isdigit() else device,
                channels=1,
                dtype="float32",
                callback=self._on_block,
                finished_callback=self._on_finished,
            )
            stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            if stream is not None:  # it opened, but does not start
                stream.close(ignore_errors=True)
            raise SourceError(f"{self.description}: {_why(sounddevice, error)}") from error
        self._stream = stream

    def read(self) -> Audio:
        """The next block.

        Raises:
            SourceError: The device was unplugged or stopped delivering.
        """
        if self._stream is None:
            raise SourceError(f"{self.description} is not open. Call open() first.")
        try:
            block = self._blocks.get(timeout=READ_TIMEOUT_S)
        except queue.Empty:
            block = None
        if block is None:
            raise SourceError(
                f"{self.description}: no sound within {READ_TIMEOUT_S:g} s: unplugged, or taken by another program. "
                "`python -m sounddevice` lists the devices."
            )
        return block

    def close(self) -> None:
        """Stop recording."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close(ignore_errors=True)

    def _on_block(self, data: Any, frames: int, timing: Any, status: Any) -> None:
        # PortAudio's own thread: nothing here may wait.
        del timing
        lost = status.input_overflow if status else False
        length_ns = frames * 1_000_000_000 // self.rate_hz
        now = Stamp.now()
        with self._lock:
            # PortAudio does not say how much it lost; one block is the least, and marks the gap.
            self._heard += frames if lost else 0
            first, self._heard = self._heard, self._heard + frames
        block = Audio(
            pcm=np.array(data[:, 0], dtype=np.float32),
            sample_rate_hz=self.rate_hz,
            captured=Stamp(time_ns=now.time_ns - length_ns, monotonic_ns=now.monotonic_ns - length_ns),
            first_sample=first,
            uri=f"microphone:{'' if self.options.device is None else self.options.device}",
        )
        try:
            self._blocks.put_nowait(block)
        except queue.Full:
            return  # the next block's first_sample shows the gap

    def _on_finished(self) -> None:
        try:
            self._blocks.put_nowait(None)
        except queue.Full:
            return  # read() finds out by its timeout


def _import_sounddevice() -> Any:
    try:
        sounddevice = importlib.import_module("sounddevice")
    except ImportError as error:
        raise MissingExtraError("source `microphone` needs sounddevice: pip install 'edgesdk[speech]'") from error
    except OSError as error:
        # sounddevice is a thin binding; on Linux its wheel carries no PortAudio.
        raise MissingExtraError(
            f"source `microphone` needs the PortAudio library ({error}): {PORTAUDIO_LINE}"
        ) from error
    return sounddevice


def _why(sounddevice: Any, error: Exception) -> str:
    text = str(error)
    inputs = [
        f"{device['index']} {device['name']} ({device['default_samplerate']:g} Hz)"
        for device in sounddevice.query_devices()
        if device["max_input_channels"] > 0
    ]
    if not inputs:
        return f"{text}. There is no recording device here: plug a microphone in, then check `arecord -l`."
    known = ", ".join(inputs)
    if "sample rate" in text.lower():
        return (
            f"{text}. The device does not offer this rate; set `device: default` (ALSA then resamples) or a rate that "
            f"it has. Recording devices: {known}."
        )
    return f"{text}. Recording devices: {known}. Set `device:` to one of them."
