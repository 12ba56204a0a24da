"""The voice activity task keeps states, context and segments over blocks; and hears the speech in a real recording."""

from __future__ import annotations

import itertools
import json
import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgesdk.bundle.manifest import Contract, OutputSpec, StateInput
from edgesdk.errors import TaskError
from edgesdk.samples import Audio, Picture
from edgesdk.tasks.api import Array, StreamingTask, Task
from edgesdk.tasks.speech import VoiceActivityTask
from edgesdk.tasks.speech_results import SpeechSegment

MakeContract = Callable[..., Contract]


class _Model:
    """Speech wherever the chunk's new samples are loud; the state counts the inferences since it was zeros."""

    def __init__(self) -> None:
        self.counts: list[float] = []
        self.rates: list[Array] = []

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        chunk, state, rate = inputs
        assert chunk.shape == (1, 576)
        self.counts.append(float(state[0, 0, 0]))
        self.rates.append(rate)
        return [np.array([[np.abs(chunk[0, 64:]).mean()]], np.float32), state + 1]


def _audio(pcm: Any, first: int = 0, *, last: bool = False) -> Audio:
    return Audio(pcm=np.asarray(pcm, np.float32), sample_rate_hz=16000, first_sample=first, last=last)


def _chunks(*loudness: float) -> Any:
    return np.repeat(np.array(loudness, np.float32), 512)


def test_voice_activity__state_and_constant_reach_every_inference(vad_contract: MakeContract) -> None:
    task, model = VoiceActivityTask(vad_contract()), _Model()
    assert isinstance(task, Task)
    result = task(model, _audio(_chunks(0, 1, 0.25)))
    task(model, _audio(_chunks(0, 0), 3 * 512))
    assert model.counts == [0, 1, 2, 3, 4]
    assert all(rate.shape == () and rate.dtype == np.int64 and rate == 16000 for rate in model.rates)
    assert result.probabilities.tolist() == [0, 1, 0.25]
    assert result.start_samples.tolist() == [0, 512, 1024]
    assert result.start_s.tolist() == [0, 0.032, 0.064]
    assert result.speech_fraction == pytest.approx(1 / 3)
    task.reset()
    task(model, _audio(_chunks(0)))
    assert model.counts[-1] == 0


def test_voice_activity__segments_over_blocks(vad_contract: MakeContract) -> None:
    options = {"min_speech_s": 0.06, "min_silence_s": 0.06, "pad_s": 0}
    task, model = VoiceActivityTask(vad_contract(options=options)), _Model()
    first = task(model, _audio(_chunks(0, 1, 1)))
    assert (first.speaking, first.segments) == (True, (SpeechSegment(start_s=0.032, end_s=None),))
    assert [event.to_json() for event in first.events] == [{"event": "start", "time_s": 0.032}]
    second = task(model, _audio(_chunks(1, 0, 0, 1, 1), 3 * 512, last=True))
    assert second.segments == (SpeechSegment(start_s=0.032, end_s=0.128), SpeechSegment(start_s=0.192, end_s=0.256))
    assert second.speaking is False
    assert [event.event for event in second.events] == ["end", "start", "end"]
    # the stream has ended: the next block is a new one
    assert task(model, _audio(_chunks(1))).gaps == 0
    assert model.counts[-1] == 0


def test_voice_activity__gap_closes_the_segment_and_zeroes_the_state(vad_contract: MakeContract) -> None:
    options = {"min_speech_s": 0.03, "min_silence_s": 0.06, "pad_s": 0}
    task, model = VoiceActivityTask(vad_contract(options=options)), _Model()
    task(model, _audio(_chunks(1, 1)))
    result = task(model, _audio(_chunks(1, 0), 16000))
    assert result.gaps == 1
    assert model.counts == [0, 1, 0, 1]
    assert result.segments == (SpeechSegment(start_s=0.0, end_s=0.064), SpeechSegment(start_s=1.0, end_s=None))
    assert [event.event for event in result.events] == ["end", "start"]


def test_voice_activity__nan_in_the_sound_does_not_stay_in_the_state(vad_contract: MakeContract) -> None:
    """A model whose state takes the sound in, as a recurrent one does: without a reset it would be NaN for ever."""

    def run(inputs: Sequence[Array]) -> list[Array]:
        chunk, state, _ = inputs
        after = state + chunk.sum()
        return [np.array([[np.abs(chunk[0, 64:]).mean() + 0 * after.sum()]], np.float32), after]

    task = VoiceActivityTask(vad_contract(options={"min_speech_s": 0.03, "min_silence_s": 0.06, "pad_s": 0}))
    pcm = _chunks(1, 1, 1, 0, 0, 0)
    pcm[2 * 512 - 1] = np.nan  # in the context of the chunk after it as well
    result = task(run, _audio(pcm))
    assert result.start_samples.tolist() == [0, 1536, 2048, 2560]
    assert result.probabilities.tolist() == [1, 0, 0, 0]
    assert (result.broken_chunks, result.gaps) == (2, 0)
    assert [event.event for event in result.events] == ["start", "end"]
    assert task(run, _audio(_chunks(1), 6 * 512)).probabilities.tolist() == [1]
    assert json.dumps(result.to_json(), allow_nan=False)
    task.reset()
    assert task(run, _audio(_chunks(0))).broken_chunks == 0


@pytest.mark.parametrize("broken", ["probability", "state"])
def test_voice_activity__state_that_ran_away_begins_anew(vad_contract: MakeContract, broken: str) -> None:
    def run(inputs: Sequence[Array]) -> list[Array]:
        state = inputs[1] + np.float32(1)
        bad = state[0, 0, 0] == 3
        probability = np.array([[np.nan if bad and broken == "probability" else 0.5]], np.float32)
        return [probability, state * np.float32(np.inf) if bad and broken == "state" else state]

    task = VoiceActivityTask(vad_contract())
    result = task(run, _audio(_chunks(0, 0, 0, 0, 0, 0, 0)))
    assert result.start_samples.tolist() == [0, 512, 1536, 2048, 3072]
    assert result.broken_chunks == 2


def test_voice_activity__model_that_gives_nan_for_good_sound_is_an_error(vad_contract: MakeContract) -> None:
    task, model = VoiceActivityTask(vad_contract()), _Model()

    def broken(inputs: Sequence[Array]) -> list[Array]:
        return [np.full((1, 1), np.nan, np.float32), inputs[1]]

    with pytest.raises(TaskError, match=r"VoiceActivity\.probabilities holds NaN.*run a variant of higher precision"):
        task(broken, _audio(_chunks(0, 0)))
    assert task(model, _audio(_chunks(1), 1024)).probabilities.tolist() == [1]


def test_voice_activity__failed_inference_loses_its_block_and_is_a_gap(vad_contract: MakeContract) -> None:
    options = {"min_speech_s": 0.03, "min_silence_s": 0.06, "pad_s": 0}
    task, model = VoiceActivityTask(vad_contract(options=options)), _Model()

    def fails_at_third(inputs: Sequence[Array]) -> list[Array]:
        if len(model.counts) == 3:
            raise RuntimeError("the accelerator went away")
        return model(inputs)

    assert task(fails_at_third, _audio(_chunks(0, 1))).speaking is True
    with pytest.raises(RuntimeError, match="accelerator"):
        task(fails_at_third, _audio(np.concatenate((_chunks(1, 1, 1), [1.0] * 100)), 2 * 512))
    result = task(model, _audio(_chunks(0, 0), 5 * 512 + 100))
    # The third chunk was heard before the failure; the segment ends behind it, and its end is told now.
    assert [event.to_json() for event in result.events] == [{"event": "end", "time_s": 0.096}]
    assert result.segments == (SpeechSegment(start_s=0.032, end_s=0.096),)
    assert result.gaps == 1
    assert result.start_samples.tolist() == [5 * 512 + 100, 6 * 512 + 100]  # what waited is gone with the block
    assert model.counts[-2:] == [0, 1]


def test_voice_activity__failure_in_the_last_block_ends_the_stream(vad_contract: MakeContract) -> None:
    task, model = VoiceActivityTask(vad_contract()), _Model()
    task(model, _audio(_chunks(1)))

    def fails(_: Sequence[Array]) -> list[Array]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        task(fails, _audio(_chunks(1), 512, last=True))
    result = task(model, _audio(_chunks(0)))
    assert (result.gaps, result.events, model.counts[-1]) == (0, (), 0)


def test_voice_activity__block_without_a_chunk(vad_contract: MakeContract) -> None:
    task = VoiceActivityTask(vad_contract())
    result = task(_Model(), _audio(np.zeros(100)))
    assert (result.probabilities.size, result.speech_fraction, result.segments) == (0, 0.0, ())
    assert result.to_json()["start_s"] is None


def test_voice_activity__json_is_plain_and_rounded(vad_contract: MakeContract) -> None:
    task = VoiceActivityTask(vad_contract(options={"min_speech_s": 0.05, "pad_s": 0}))
    built = task(_Model(), _audio(_chunks(0, 1, 1, 1 / 3), 512)).to_json()
    assert json.loads(json.dumps(built)) == {
        "kind": "voice_activity",
        "speaking": True,
        "speech_fraction": 0.5,
        "chunk_s": 0.032,
        "start_s": 0.032,
        "probabilities": [0.0, 1.0, 1.0, 0.333],
        "events": [{"event": "start", "time_s": 0.064}],
        "segments": [{"start_s": 0.064, "end_s": None}],
        "gaps": 0,
        "broken_chunks": 0,
    }


def test_voice_activity__feeds_leave_the_stream_alone(vad_contract: MakeContract) -> None:
    task, model = VoiceActivityTask(vad_contract()), _Model()
    task(model, _audio(_chunks(1)))
    feeds = task.feeds(_audio(_chunks(0.5, 0.25)))
    assert [[array.shape for array in feed] for feed in feeds] == [[(1, 576), (2, 1, 128), ()]] * 2
    assert feeds[1][0][0, :64].tolist() == [0.5] * 64
    assert not feeds[1][1].any()
    (short,) = task.feeds(_audio(np.ones(10)))
    assert short[0].sum() == 10
    task(model, _audio(_chunks(1), 512))
    assert model.counts == [0, 1]


@pytest.mark.parametrize("sizes", [[1500], [10, 700, 790], [512, 512, 476]])
def test_voice_activity__feeds_of_blocks_are_those_of_the_whole(vad_contract: MakeContract, sizes: list[int]) -> None:
    task = VoiceActivityTask(vad_contract())
    assert isinstance(task, StreamingTask)
    pcm = np.random.default_rng(0).normal(size=1500).astype(np.float32)
    whole = task.feeds(_audio(pcm, last=True))
    starts = np.cumsum([0, *sizes])
    blocks = [_audio(pcm[a:b], int(a), last=b == 1500) for a, b in itertools.pairwise(starts)]
    streamed = list(task.stream_feeds(blocks))
    assert len(streamed) == len(whole) == 3
    for one, other in zip(streamed, whole, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_voice_activity__sample_that_is_no_audio(vad_contract: MakeContract) -> None:
    with pytest.raises(TaskError, match=r"got a Picture, expected Audio. Feed it from a wav file or a microphone."):
        VoiceActivityTask(vad_contract())(_Model(), Picture(pixels=np.zeros((2, 2, 3), np.uint8)))


def test_voice_activity__contract_that_does_not_fit(vad_contract: MakeContract) -> None:
    contract = vad_contract()
    audio, state, rate = contract.inputs
    output, state_out = contract.outputs
    wrong = {
        "got 0 inputs of kind audio": replace_inputs(contract, state, rate),
        "comes from output 'stateM', which is none of output, stateN. Correct `from_output:`": replace_inputs(
            contract, audio, _with(state, source=StateInput(from_output="stateM"))
        ),
        r"has shape \(2, 1, 128\), its output 'stateN' \(2, 1, 64\); expected the same": replace_outputs(
            contract, output, _with(state_out, shape=(2, 1, 64))
        ),
        "outputs that are no state's: .* expected one, of one element": replace_outputs(
            contract, output, state_out, OutputSpec(name="other", shape=(1, 1), dtype="float32")
        ),
        "option 'treshold' of task 'voice-activity' is unknown. Did you mean 'threshold'?": vad_contract(
            options={"treshold": 0.5}
        ),
        "end_threshold 0.6 is above threshold 0.5": vad_contract(options={"end_threshold": 0.6}),
    }
    for expected, broken in wrong.items():
        with pytest.raises(TaskError, match=expected):
            VoiceActivityTask(broken)


def _with(spec: Any, **changes: Any) -> Any:
    return type(spec)(**{**{name: getattr(spec, name) for name in spec.__struct_fields__}, **changes})


def replace_inputs(contract: Contract, *inputs: Any) -> Contract:
    built: Contract = _with(contract, inputs=inputs)
    return built


def replace_outputs(contract: Contract, *outputs: Any) -> Contract:
    built: Contract = _with(contract, outputs=outputs)
    return built


@pytest.mark.zoo
def test_voice_activity__hears_the_speech_of_a_recording(vad_contract: MakeContract) -> None:
    zoo = pytest.importorskip("edgesdk_converters.zoo", reason="pip install -e ./converters")
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'edgesdk[onnx]'")
    session = runtime.InferenceSession(zoo.fetch("silero-vad").read_bytes(), providers=["CPUExecutionProvider"])
    with wave.open(str(zoo.media("beckett"))) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (16000, 2, 1)
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)

    def listen(contract: Contract, block: int) -> list[Any]:
        names = [spec.name for spec in contract.inputs]
        outputs = [spec.name for spec in contract.outputs]
        task = VoiceActivityTask(contract)
        audio = _audio(pcm, last=True)
        return [
            task(
                lambda inputs: session.run(outputs, dict(zip(names, inputs, strict=True))),
                replace(audio, pcm=pcm[at : at + block], first_sample=at, last=at + block >= pcm.size),
            )
            for at in range(0, pcm.size, block)
        ]

    (whole,) = listen(vad_contract(), pcm.size)
    assert len(whole.probabilities) == 312
    assert whole.speech_fraction == pytest.approx(0.4519, abs=0.01)
    assert [round(part.start_s, 1) for part in whole.segments] == [0.3, 1.9, 3.5, 4.9, 6.6, 8.1]

    blocks = listen(vad_contract(), 1600)
    assert np.array_equal(np.concatenate([part.probabilities for part in blocks]), whole.probabilities)
    assert [part for block in blocks for part in block.segments if part.end_s is not None] == list(whole.segments)

    # Without the 64 samples of context the same model is deaf: nobody may leave them out.
    (deaf,) = listen(vad_contract(context=0), pcm.size)
    assert deaf.speech_fraction == 0.0
