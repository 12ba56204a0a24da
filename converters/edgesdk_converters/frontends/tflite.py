"""Reads TFLite files; the flatbuffer work is in :mod:`edgesdk_converters.tflite`."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import ClassVar

from edgesdk.backends.api import TensorInfo
from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends.api import SourceModel, Tensor, read_bytes
from edgesdk_converters.spec import ModelSpec

_MAX_LABELS_BYTES = 4_000_000


class TfliteFrontend:
    """`.tflite` files."""

    name: ClassVar[str] = "tflite"

    def accepts(self, source: str | Path) -> bool:
        """By the name, or by the flatbuffer's file identifier."""
        path = Path(source)
        if path.suffix.lower() in (".tflite", ".lite"):
            return path.exists()
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(8)[4:8] == b"TFL3"

    def read(
        self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None, trust_pickle: bool = False
    ) -> SourceModel:
        """Read and check the file.

        Raises:
            ModelFormatError: It is no TFLite file, damaged, takes strings, or has constants that are not numbers.
            ConversionError: A state dict is given, too.
        """
        del spec, trust_pickle
        from edgesdk_converters.tflite.inspect import describe
        from edgesdk_converters.tflite.lift.numbers import not_numbers

        path = Path(source)
        if state_dict is not None:
            raise ConversionError(f"{path.name}: already holds its weights. Leave --state-dict out.")
        content, digest = read_bytes(path)
        if content[4:8] != b"TFL3":
            raise ModelFormatError(
                f"{path.name}: is no TFLite file: bytes 4 to 8 are {content[4:8]!r}, expected b'TFL3'. "
                "Copy, download or export it again."
            )
        found = describe(content, name=path.name)
        strings = next((info.name for info in found.inputs if info.dtype.kind == "O"), None)
        if strings is not None:
            raise ModelFormatError(
                f"{path.name}: input {strings!r} takes strings; a board delivers numbers. Cut the graph behind its tokenizer or table, and "
                "make the ids its input."
            )
        bad = not_numbers(content, name=path.name)
        if bad is not None:
            raise ModelFormatError(
                f"{path.name}: {bad}. Training went astray, or the file is damaged: export a checkpoint whose weights are finite."
            )
        return SourceModel(
            content=content,
            format="tflite",
            file=path.name,
            sha256=digest,
            inputs=tuple(_tensor(info) for info in found.inputs),
            outputs=tuple(_tensor(info) for info in found.outputs),
            metadata=_metadata(content),
        )


def _metadata(content: bytes) -> dict[str, str]:
    """Labels that TFLite's metadata tools appended: a zip behind the flatbuffer, with one text file of labels."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            texts = [info for info in archive.infolist() if info.filename.endswith(".txt")]
            if len(texts) != 1 or texts[0].file_size > _MAX_LABELS_BYTES:
                return {}
            return {"labels": archive.read(texts[0]).decode("utf-8")}
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError, OSError):
        return {}


def _tensor(info: TensorInfo) -> Tensor:
    return Tensor(
        name=info.name,
        shape=tuple(size if size > 0 else None for size in info.shape),
        dtype=str(info.dtype),
        quantization=info.quantization if info.dtype.kind in "iu" else None,
    )
