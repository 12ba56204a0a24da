"""The ways from a float model to an int8 file, ours and others', each measured on the same samples."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle import Bundle
from edgesdk.errors import EdgeSdkError
from edgesdk_converters.guard import Budget, measure
from edgesdk_converters.pipeline import Conversion, convert
from edgesdk_converters.variants.open import open_tflite
from tests.benchmarks.convert import environments
from tests.benchmarks.convert.judging import (
    Figures,
    Outputs,
    Runs,
    judge,
    outputs_of,
    plain,
    relative_error,
    same_decisions,
    within_steps,
)
from tests.benchmarks.convert.rows import DEVICE, Row
from tests.benchmarks.convert.runners import PeerTflite, onnx_runner, operators

Array = NDArray[Any]
FLOAT = ("fp32", "fp16")


class Roads:
    """All roads of one row; what one makes, the next may take (litert-quantizer needs a float TFLite file)."""

    def __init__(self, row: Row, work: Path) -> None:
        self.row, self.work = row, work
        work.mkdir(parents=True, exist_ok=True)
        self.model = work / "float.onnx"
        self.model.write_bytes(row.content)
        self.feeds = row.feeds("evaluation")
        self.first: list[Array] = [np.array(one) for one in self.feeds[0]]
        self.names = [one.name for one in row.contract.inputs], [one.name for one in row.contract.outputs]
        self.tflite: bytes | None = None
        """Our float TFLite file."""

    def walk(self, only: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
        """Every road in turn; a failure is a figure like any other."""
        result: dict[str, Any] = {"float_bytes": len(self.row.content), "samples": len(self.row.expected), "roads": []}
        for name, road in self._roads().items():
            if only and not any(name.startswith(one) for one in only):
                continue
            begin = time.perf_counter()
            try:
                made = road(result)
            except environments.PeerError as error:
                made = [Figures(road=name, failed=str(error))]
            except EdgeSdkError as error:
                made = [Figures(road=name, failed=str(error).splitlines()[0][:300])]
            except Exception as error:  # noqa: BLE001 - whatever a tool raises is its result here
                (self.work / f"{name.replace(' ', '-')}.log").write_text(traceback.format_exc(), "utf-8")
                made = [
                    Figures(
                        road=name,
                        failed=f"{type(error).__name__}: {str(error).splitlines()[0][:250] if str(error) else ''}",
                    )
                ]
            result["roads"] += [plain(one) for one in made]
            for one in made:
                say(f"  {one.road}: {one.failed or in_words(one)} ({time.perf_counter() - begin:.0f} s)")
        return result

    def _roads(self) -> dict[str, Callable[[dict[str, Any]], list[Figures]]]:
        roads: dict[str, Callable[[dict[str, Any]], list[Figures]]] = {
            "lowering": self.lowering,
            "ours auto": lambda result: self.ours("auto", "ours auto", result),
        }
        if self.row.name == "kws-ds-cnn":
            roads["ours w8a8"] = lambda result: self.ours("w8a8", "ours w8a8", result, allow="benchmark")
            roads["ours w4a8"] = lambda result: self.ours("w4a8", "ours w4a8", result, allow="benchmark")
        peers = {
            "onnxruntime.quantization": lambda _: self.onnx_peer(environments.ORT),
            "NNCF": lambda _: self.onnx_peer(environments.NNCF),
            "litert-quantizer": lambda _: self.litert(),
            "onnx2tf": self.onnx2tf,
        }
        return {**roads, **peers}

    # -- ours -----------------------------------------------------------------------------------------------------

    def lowering(self, result: dict[str, Any]) -> list[Figures]:
        """Float ONNX to float TFLite."""
        import onnx

        from edgesdk_converters.tflite.lower import lower

        model = onnx.load_from_string(self.row.content)
        begin = time.process_time()
        content = lower(model, name=self.row.name)
        seconds = time.process_time() - begin
        self.tflite = content
        (self.work / "float.tflite").write_bytes(content)
        runner = open_tflite(content, self.row.name, tuple(self.names[0]), tuple(self.names[1]))
        some = [feed for _, feed in zip(range(32), self.feeds, strict=False)]
        error = relative_error(self.row, outputs_of(runner, some))
        result["lowering"] = {"seconds": round(seconds, 2), "relative_error": error, "operators": operators(content)}
        latency = measure(lambda: runner.run(self.first), lambda: self.row.float_runner.run(self.first))
        result["lowering"]["litert_over_onnxruntime"] = latency.ratio
        return [Figures(road="lowering", format="tflite", operators=operators(content), seconds=round(seconds, 2))]

    def ours(self, recipe: str, name: str, result: dict[str, Any], allow: str | None = None) -> list[Figures]:
        """One conversion, both formats."""
        row = self.row
        begin = time.process_time()
        conversion = convert(
            row.source,
            device=DEVICE,
            calibration=row.folder / "calibration",
            output=self.work / f"{recipe}.edge",
            spec=row.spec,
            recipe=recipe,
            budget=Budget(min_speedup=1.5) if row.name == "detector" and recipe == "auto" else None,
            formats=("onnx", "tflite"),
            allow=allow,
        )
        seconds = time.process_time() - begin
        made: list[Figures] = []
        answers: dict[str, Outputs] = {}
        with Bundle.open(conversion.bundle) as bundle:
            contract = bundle.manifest.contract
            feeds = row.feeds("evaluation", contract)
            first = [np.array(one) for one in feeds[0]]
            variants = {one.id: one for one in bundle.manifest.variants}
            files = {key: bundle.read(one.file) for key, one in variants.items()}
            runners = {key: _open(files[key], one.format, one.inputs, one.outputs) for key, one in variants.items()}
            for key, variant in variants.items():
                if variant.precision in FLOAT:
                    continue
                figures = Figures(road=f"{name} {variant.format}", format=variant.format, seconds=round(seconds, 1))
                figures.kept, figures.float_nodes = variant.precision, len(variant.float_nodes)
                answers[variant.format] = outputs_of(runners[key], feeds)
                judge(row, figures, answers[variant.format])
                base = next(
                    (one for one in (f"{variant.format}-fp32", f"{variant.format}-fp16") if one in runners), None
                )
                figures.size_ratio = _ratio(
                    files[key], row.content if variant.format == "onnx" else self.tflite or row.content
                )
                if base is not None:
                    figures.cpu_ratio = _time(runners[key], runners[base], first)
                if variant.format == "tflite":
                    figures.operators = operators(files[key])
                made.append(figures)
        if len(answers) == 2:
            result[f"{name}: both formats"] = {
                "same_decision": round(same_decisions(row, answers["onnx"], answers["tflite"]), 4),
                "within_2_steps": within_steps(row, answers["onnx"], answers["tflite"]),
            }
        missing = [one for one in ("onnx", "tflite") if one not in answers]
        made += [
            Figures(
                road=f"{name} {one}", format=one, kept="float", failed=_why(conversion, one), seconds=round(seconds, 1)
            )
            for one in missing
        ]
        if missing and recipe == "auto":
            # Whether both formats decide alike is asked of every model, also where the guard keeps none or one of them.
            made += self.ours("w8a8", "ours w8a8", result, allow="benchmark")
        return made

    # -- others ---------------------------------------------------------------------------------------------------

    def onnx_peer(self, peer: environments.Peer) -> list[Figures]:
        """A tool that makes ONNX of ONNX."""
        answer = environments.run(peer, self.work / peer.script, self.model, self.row.stacked())
        content = Path(answer["int8"]).read_bytes()
        figures = Figures(road=peer.name, format="onnx", seconds=round(answer["seconds"], 1))
        runner = onnx_runner(content, self.row.float_runner)
        judge(self.row, figures, outputs_of(runner, self.feeds))
        figures.size_ratio = _ratio(content, self.row.content)
        figures.cpu_ratio = _time(runner, self.row.float_runner, self.first)
        return [figures]

    def litert(self) -> list[Figures]:
        """litert-quantizer on our float TFLite file, the best one that there is for it here."""
        if self.tflite is None:
            return [Figures(road=environments.LITERT.name, failed="there is no float TFLite file to start from")]
        path = self.work / "float.tflite"
        path.write_bytes(self.tflite)
        answer = environments.run(
            environments.LITERT, self.work / "litert", self.model, self.row.stacked(), tflite=str(path)
        )
        return [
            self._flatbuffer(
                environments.LITERT.name, Path(answer["int8"]).read_bytes(), self.tflite, answer["seconds"]
            )
        ]

    def onnx2tf(self, result: dict[str, Any]) -> list[Figures]:
        """onnx2tf, float and int8; its float file is what our lowering is compared with."""
        name = environments.ONNX2TF.name
        answer = environments.run(environments.ONNX2TF, self.work / "onnx2tf", self.model, self.row.stacked())
        if "float" not in answer:
            return [
                Figures(road=f"{name} float", failed=answer["float_error"]),
                Figures(road=f"{name} int8", failed="no float file"),
            ]
        content = Path(answer["float"]).read_bytes()
        made = [self._loaded(f"{name} float", content, self.tflite or content, answer["float_seconds"])]
        if self.tflite is not None and not made[0].failed:
            sample = (self.first, self.row.expected[0])
            mine, theirs = PeerTflite(self.tflite, self.names, sample), PeerTflite(content, self.names, sample)
            result.setdefault("lowering", {}).update(
                onnx2tf_operators=operators(content),
                onnx2tf_seconds=round(answer["float_seconds"], 2),
                over_onnx2tf=measure(mine.again, theirs.again).ratio,
            )
        if "int8_error" in answer:
            made.append(Figures(road=f"{name} int8", failed=answer["int8_error"]))
        if "int8" in answer:
            road = f"{name} int8, per tensor" if answer.get("per_tensor") else f"{name} int8"
            made.append(self._loaded(road, Path(answer["int8"]).read_bytes(), content, answer["seconds"]))
        return made

    def _loaded(self, name: str, content: bytes, base: bytes, seconds: float) -> Figures:
        """As :meth:`_flatbuffer`; a file that was written but does not run is a failure of its own, beside the other file's figures."""
        try:
            return self._flatbuffer(name, content, base, seconds)
        except (RuntimeError, ValueError) as error:
            return Figures(
                road=name, format="tflite", failed=f"its file does not run: {str(error).splitlines()[0][:200]}"
            )

    def _flatbuffer(self, name: str, content: bytes, base: bytes, seconds: float) -> Figures:
        sample = (self.first, self.row.expected[0])
        runner, reference = PeerTflite(content, self.names, sample), PeerTflite(base, self.names, sample)
        figures = Figures(road=name, format="tflite", seconds=round(seconds, 1), operators=operators(content))
        judge(self.row, figures, outputs_of(runner, self.feeds))
        figures.size_ratio = _ratio(content, base)
        figures.cpu_ratio = measure(runner.again, reference.again).ratio
        return figures


def in_words(figures: Figures) -> str:
    """One line."""
    parts = [
        f"size {figures.size_ratio:.2f}" if figures.size_ratio else "",
        f"time {figures.cpu_ratio:.2f}" if figures.cpu_ratio else "",
    ]
    parts += [f"{key} {value:.1f} dB" for key, value in figures.snr_db.items()]
    parts += [f"{key} top-1 {value:.3f}" for key, value in figures.agreement.items()]
    parts += [f"{key} {value:.4f}" for key, value in figures.metrics.items()]
    return ", ".join(part for part in parts if part)


def _open(content: bytes, kind: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Runs:
    if kind == "tflite":
        return open_tflite(content, "model", inputs, outputs)
    runner = onnx_runner(content)
    runner.inputs, runner.outputs = list(inputs), list(outputs)
    return runner


def _time(mine: Runs, theirs: Runs, feed: Sequence[Array]) -> float:
    return measure(lambda: mine.run(feed), lambda: theirs.run(feed)).ratio


def _ratio(content: bytes, base: bytes) -> float:
    return round(len(content) / len(base), 3)


def _why(conversion: Conversion, kind: str) -> str:
    """Why there is no quantized variant of this format, in the guard's words."""
    reasons = ["; ".join(one.reasons) for one in conversion.refused if one.variant.startswith(kind)]
    found = [reason for reason in (*reasons, *conversion.failures) if reason]
    return f"float kept: {(found or ['no reason given'])[0][:260]}"
