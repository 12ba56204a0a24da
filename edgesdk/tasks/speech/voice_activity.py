"""Task `voice-activity`: a streaming model that gives one speech probability per chunk (Silero VAD and its like)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from edgesdk.bundle.manifest import AudioInput, ConstantInput, Contract, InputSpec, StateInput
from edgesdk.errors import TaskError
from edgesdk.samples import Audio, Sample
from edgesdk.tasks.api import Array, Run
from edgesdk.tasks.inputs import constant
from edgesdk.tasks.options import TaskOptions, read_options
from edgesdk.tasks.outputs import check_outputs
from edgesdk.tasks.results import check_finite
from edgesdk.tasks.speech.framing import AudioFramer, Chunk
from edgesdk.tasks.speech.segmentation import SegmentRule, SpeechSegmenter
from edgesdk.tasks.speech_results import VoiceActivity

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Duration = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class VoiceActivityOptions(TaskOptions, frozen=True, kw_only=True):
    """Options of task `voice-activity`; the defaults are those of Silero VAD 6.2.3."""

    threshold: Probability = 0.5
    """Probability from which a chunk is speech."""
    end_threshold: Probability | None = None
    """Probability below which speech ends; None is 0.15 below ``threshold``, at least 0.01."""
    min_speech_s: Duration = 0.25
    """Shorter speech is no segment."""
    min_silence_s: Duration = 0.1
    """Shorter silence ends no segment."""
    pad_s: Duration = 0.03
    """Added at both ends of a segment."""

    def __post_init__(self) -> None:
        if self.end_threshold is not None and self.end_threshold > self.threshold:
            raise ValueError(f"end_threshold {self.end_threshold} is above threshold {self.threshold}")


class VoiceActivityTask:
    """Keeps the framer, the recurrent states and the segmenter between calls: one instance hears one stream.

    Inputs: one ``audio``, any number of ``state`` and ``constant``. Outputs: the one that is no state's is the
    probability. ``Audio.last`` ends the stream; the next block begins a new one with fresh states.

    A chunk for which the model returns NaN or infinity is left out and counted, and the states become zeros again: NaN in a
    state would stay in it for ever. Where neither the chunk nor the states can be the reason, the model is broken, which is a
    `TaskError`.

    Where an inference raises, the rest of that block is lost as if it had not been recorded: the next block counts as a gap,
    begins with fresh states, and carries the end of a segment that was open. The block cannot be given again: its first chunks
    have been heard, and an app that goes on has sent the next sound already.

    Raises:
        TaskError: The contract's inputs, outputs or options do not fit.
    """

    Options: ClassVar[type[TaskOptions]] = VoiceActivityOptions

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        options = read_options(contract, VoiceActivityOptions)
        self._audio = _only_audio(contract)
        self._framer = AudioFramer(contract.inputs[self._audio])
        self._states, self._probability = _state_pairs(contract)
        self._zeros: list[Array] = [_initial(spec) for spec in contract.inputs]
        self._inputs = list(self._zeros)
        self._fresh = True
        """Whether the states are zeros."""
        self._broken = 0
        end_threshold = options.end_threshold
        self._rule = SegmentRule(
            threshold=options.threshold,
            end_threshold=max(0.01, options.threshold - 0.15) if end_threshold is None else end_threshold,
            min_speech_s=options.min_speech_s,
            min_silence_s=options.min_silence_s,
            pad_s=options.pad_s,
        )
        self._segmenter = SpeechSegmenter(self._rule, self._framer.sample_rate_hz)

    def __call__(self, run: Run, sample: Sample) -> VoiceActivity:
        """Run the model once per chunk that this block completes.

        Raises:
            TaskError: The sample is no audio, or of another sample rate, dtype or width; or the model returns other shapes than the
                contract says, or NaN for a sound without any.
        """
        audio = _audio_sample(sample)
        framed = self._framer.push(audio)
        if framed.gap:
            self._segmenter.finish()
        if framed.begin:
            self._zero_states()
            self._segmenter.begin(audio.first_sample)
        try:
            heard = self._hear(run, framed.chunks)
        except Exception:
            if audio.last:
                self.reset()
            else:
                self._framer.break_off()
            raise
        if audio.last:
            self._segmenter.finish()
        segments, events = self._segmenter.take()
        result = VoiceActivity(
            probabilities=np.array([probability for _, probability in heard], np.float32),
            start_samples=np.array([start_sample for start_sample, _ in heard], np.int64),
            sample_rate_hz=self._framer.sample_rate_hz,
            chunk_samples=self._framer.chunk_samples,
            threshold=self._rule.threshold,
            segments=segments,
            events=events,
            speaking=self._segmenter.speaking,
            gaps=self._framer.gaps,
            broken_chunks=self._broken,
        )
        if audio.last:
            self.reset()
        return result

    def feeds(self, sample: Sample) -> list[list[Array]]:
        """One list per chunk, states zeros; audio shorter than a chunk is padded. The stream is left alone."""
        audio = _audio_sample(sample)
        framer = AudioFramer(self.contract.inputs[self._audio])
        chunks = framer.push(audio).chunks
        if not chunks and audio.pcm.size:
            framer.reset()
            chunks = framer.push(replace(audio, last=True)).chunks
        return [self._feed(chunk) for chunk in chunks]

    def stream_feeds(self, blocks: Iterable[Sample]) -> Iterator[list[Array]]:
        """The same for a recording in blocks, of which no more than one is held. The stream is left alone."""
        framer = AudioFramer(self.contract.inputs[self._audio])
        for block in blocks:
            for chunk in framer.push(_audio_sample(block)).chunks:
                yield self._feed(chunk)

    def _feed(self, chunk: Chunk) -> list[Array]:
        feed = list(self._zeros)
        feed[self._audio] = chunk.values
        return feed

    def reset(self) -> None:
        """Forget the stream: waiting samples, states, open segment, counts."""
        self._framer.reset()
        self._zero_states()
        self._broken = 0
        self._segmenter = SpeechSegmenter(self._rule, self._framer.sample_rate_hz)

    def _zero_states(self) -> None:
        self._inputs = list(self._zeros)
        self._fresh = True

    def _hear(self, run: Run, chunks: Sequence[Chunk]) -> list[tuple[int, float]]:
        """Start sample and probability of each chunk that the model made something of."""
        heard: list[tuple[int, float]] = []
        for chunk in chunks:
            self._inputs[self._audio] = chunk.values
            outputs = run(self._inputs)
            check_outputs(self.contract, outputs)
            probability = float(outputs[self._probability].reshape(-1)[0])
            if not (math.isfinite(probability) and all(_is_finite(outputs[output]) for _, output in self._states)):
                if self._fresh and _is_finite(chunk.values):
                    check_finite("VoiceActivity", "probabilities", math.nan)
                self._broken += 1
                self._zero_states()
                continue
            for into, output in self._states:
                self._inputs[into] = outputs[output]
            self._fresh = False
            heard.append((chunk.start_sample, probability))
            self._segmenter.push(probability, chunk.start_sample, chunk.samples)
        return heard


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _audio_sample(sample: Sample) -> Audio:
    if not isinstance(sample, Audio):
        raise TaskError(
            f"task 'voice-activity': got a {type(sample).__name__}, expected Audio. "
            "Feed it from a wav file or a microphone."
        )
    return sample


def _only_audio(contract: Contract) -> int:
    found = [index for index, spec in enumerate(contract.inputs) if isinstance(spec.source, AudioInput)]
    if len(found) != 1:
        raise TaskError(
            f"task {contract.task!r}: got {len(found)} inputs of kind audio among "
            f"{[spec.name for spec in contract.inputs]}, expected one. Correct `inputs:` of the model's spec."
        )
    return found[0]


def _state_pairs(contract: Contract) -> tuple[tuple[tuple[int, int], ...], int]:
    """Pairs (input, output) of the states, and the output that is the probability."""
    outputs = {spec.name: index for index, spec in enumerate(contract.outputs)}
    pairs: list[tuple[int, int]] = []
    for index, spec in enumerate(contract.inputs):
        if not isinstance(spec.source, StateInput):
            continue
        name = spec.source.from_output
        if name not in outputs:
            raise TaskError(
                f"task {contract.task!r}: state input {spec.name!r} comes from output {name!r}, which is none of "
                f"{', '.join(outputs)}. Correct `from_output:` in the model's spec."
            )
        output = contract.outputs[outputs[name]]
        if output.shape != spec.shape:
            raise TaskError(
                f"task {contract.task!r}: state input {spec.name!r} has shape {spec.shape}, its output {name!r} "
                f"{output.shape}; expected the same. Pin both at conversion."
            )
        pairs.append((index, outputs[name]))
    rest = sorted(set(outputs.values()) - {output for _, output in pairs})
    if len(rest) != 1 or int(np.prod(contract.outputs[rest[0]].shape)) != 1:
        shapes = {contract.outputs[index].name: contract.outputs[index].shape for index in rest}
        raise TaskError(
            f"task {contract.task!r}: outputs that are no state's: {shapes or 'none'}; expected one, of one element: "
            "the probability of speech. Name the others in `from_output:` of state inputs."
        )
    return tuple(pairs), rest[0]


def _initial(spec: InputSpec) -> Array:
    """What an input holds before the stream begins: its constant, or zeros."""
    return constant(spec) if isinstance(spec.source, ConstantInput) else np.zeros(spec.shape, np.dtype(spec.dtype))
