"""Archives that somebody made to hurt, and archives that a disk broke."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.bundle import Bundle
from edgesdk.bundle.zipstore import ZipStore
from edgesdk.errors import BundleError, BundleIntegrityError, BundleUnsafeError

Make = Callable[..., Any]


def raw_zip(
    path: Path, names: list[bytes], *, flags: int = 0, attributes: int = 0, offsets: list[int] | None = None
) -> Path:
    """A zip of files that hold ``x``, written field by field, so that it can lie."""
    out = io.BytesIO()
    central = io.BytesIO()
    crc = zlib.crc32(b"x")
    for index, name in enumerate(names):
        at = out.tell() if offsets is None else offsets[index]
        out.write(struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, flags, 0, 0, 33, crc, 1, 1, len(name), 0) + name + b"x")
        central.write(
            struct.pack(
                "<4s6H3I5H2I", b"PK\x01\x02", 20, 20, flags, 0, 0, 33, crc, 1, 1, len(name), 0, 0, 0, 0, attributes, at
            )
            + name
        )
    directory = central.getvalue()
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, len(names), len(names), len(directory), out.tell(), 0)
    path.write_bytes(out.getvalue() + directory + end)
    return path


def test_raw_zip__is_a_sound_archive_where_it_does_not_lie(tmp_path: Path) -> None:
    store = ZipStore(raw_zip(tmp_path / "a.edge", [b"a.txt", b"b/c.txt"]))
    assert store.sizes == {"a.txt": 1, "b/c.txt": 1}
    assert store.read("b/c.txt", 10, checksum=True) == b"x"
    store.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            b"../evil",
            "leaves the bundle by '..', expected a path inside it. Do not use this file; get it from who made it",
        ),
        (b"a/../../evil", "leaves the bundle by '..'"),
        (b"/etc/passwd", "absolute path"),
        (b"a\\..\\evil", "backslash"),
        (b"C:evil", "drive letter"),
        (b"c:/evil", "drive letter"),
        (b"folder/", "entry for a folder.*zip -D -r"),
        (b"", "0 characters"),
        (b"a" * 300, "300 characters"),
        (b"a//b", "not portable"),
        (b"./a", "not portable"),
        (b"a\x00.txt", "not portable"),
        (b"a\n", "not portable"),
        ("gr\u00f6\u00dfe".encode(), "not portable"),
        (b"\xff\xfe", "backslash"),
        (b"NUL.txt", "not portable"),
        (b".hidden", "not portable"),
    ],
)
def test_open__name_that_is_no_plain_file(tmp_path: Path, name: bytes, message: str) -> None:
    with pytest.raises(BundleUnsafeError, match=message):
        Bundle.open(raw_zip(tmp_path / "a.edge", [b"manifest.json", name]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([b"a.txt", b"a.txt"], "'a.txt' is there twice"),
        ([b"a", b"a"], "'a' is there twice"),
        ([b"a.txt", b"A.txt"], "differ only by case"),
        ([b"a", b"a/b"], "'a' is a file, and a folder of 'a/b'"),
    ],
)
def test_open__names_that_clash(tmp_path: Path, names: list[bytes], message: str) -> None:
    with pytest.raises(BundleUnsafeError, match=message):
        Bundle.open(raw_zip(tmp_path / "a.edge", names))


def test_open__symbolic_link(repack: Make) -> None:
    link = zipfile.ZipInfo("model2.onnx")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(BundleUnsafeError, match=r"'model2.onnx' is a symbolic link.*Pack the file itself"):
        Bundle.open(repack(extra=((link, b"/etc/passwd"),)))


@pytest.mark.parametrize("attributes", [(stat.S_IFDIR | 0o755) << 16, (stat.S_IFCHR | 0o644) << 16, 0x10])
def test_open__entry_that_is_no_file(tmp_path: Path, attributes: int) -> None:
    with pytest.raises(BundleUnsafeError, match=r"folder, device or pipe"):
        Bundle.open(raw_zip(tmp_path / "a.edge", [b"manifest.json"], attributes=attributes))


def test_open__encrypted(tmp_path: Path) -> None:
    with pytest.raises(BundleUnsafeError, match=r"'manifest.json' is encrypted, expected plain content"):
        Bundle.open(raw_zip(tmp_path / "a.edge", [b"manifest.json"], flags=1))


def test_open__overlapping_entries(tmp_path: Path) -> None:
    # The second entry's directory record points at the first entry's bytes, with the same name length: two names,
    # one body, as in Fifield's non-recursive zip bomb.
    path = raw_zip(tmp_path / "a.edge", [b"a.txt", b"a.txt"], offsets=[0, 0])
    with pytest.raises(BundleUnsafeError, match=r"overlaps 'a.txt': a zip bomb"):
        Bundle.open(path)


def test_open__name_differs_in_the_local_header(tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "a.edge", [b"a.txt"])
    path.write_bytes(path.read_bytes().replace(b"a.txt", b"b.txt", 1))
    with pytest.raises(BundleUnsafeError, match=r"described differently in its local header"):
        Bundle.open(path)


def test_open__too_many_files(tmp_path: Path) -> None:
    with pytest.raises(BundleUnsafeError, match=r"has 257 files, expected at most 256"):
        Bundle.open(raw_zip(tmp_path / "a.edge", [b"%d" % index for index in range(257)]))


def test_open__ratio_of_a_bomb(repack: Make) -> None:
    path = repack(extra=(("zeros.bin", b"\0" * 4_000_000),), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(BundleUnsafeError, match=r"'zeros.bin' claims to inflate .* to 4000000.*a zip bomb"):
        Bundle.open(path)


def test_open__total_size(tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "a.edge", [b"a.txt"])
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    struct.pack_into("<H", content, at + 10, 8)  # deflated
    struct.pack_into("<H", content, 8, 8)
    struct.pack_into("<II", content, at + 20, 0xFFFFFF0, 0xFFFFFFF0)
    path.write_bytes(content)
    with pytest.raises(BundleUnsafeError, match=r"claim 4294967280 bytes together"):
        Bundle.open(path)


def test_read__stops_while_inflating_where_the_header_lies(repack: Make) -> None:
    def list_it(raw: dict[str, Any]) -> None:
        raw["files"]["zeros.bin"] = {"sha256": "0" * 64, "size_bytes": 10}

    path = repack(list_it, extra=(("zeros.bin", b"\0" * 900_000),), method=zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    # Claim 10 bytes in the directory and in the local header.
    path.write_bytes(content.replace(struct.pack("<I", 900_000), struct.pack("<I", 10)))
    with Bundle.open(path) as bundle, pytest.raises(BundleUnsafeError, match=r"more than the 10 bytes it claims"):
        bundle.read("zeros.bin")


def test_read__header_claims_more_than_there_is(repack: Make) -> None:
    def list_it(raw: dict[str, Any]) -> None:
        raw["files"]["text.bin"] = {"sha256": "0" * 64, "size_bytes": 70_000}

    path = repack(list_it, extra=(("text.bin", b"ab" * 30_000),), method=zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 60_000), struct.pack("<I", 70_000)))
    with Bundle.open(path) as bundle, pytest.raises(BundleIntegrityError, match=r"inflates to 60000 bytes"):
        bundle.read("text.bin")


def test_open__damaged_manifest_fails_its_checksum(bundle_path: Path) -> None:
    content = bundle_path.read_bytes()
    bundle_path.write_bytes(content.replace(b'"relu"', b'"rely"', 1))
    with pytest.raises(BundleIntegrityError, match=r"'manifest\.json' has a wrong CRC-32.*Copy the bundle again"):
        Bundle.open(bundle_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 100, b"PK\x05\x06" + b"\0" * 18])
def test_open__no_zip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.edge"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"no zip|no manifest"):
        Bundle.open(path)


def test_open__truncated_download(bundle_path: Path) -> None:
    bundle_path.write_bytes(bundle_path.read_bytes()[:-30])
    with pytest.raises(BundleError, match=r"is truncated.*Copy the bundle again"):
        Bundle.open(bundle_path)


def try_everything(path: Path) -> None:
    with Bundle.open(path) as bundle:
        bundle.verify()
        for variant in bundle.manifest.variants:
            bundle.model_file(variant)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_bundle__any_changed_bytes_are_our_error_or_harmless(
    bundle_path: Path, tmp_path: Path, edits: list[tuple[float, int]]
) -> None:
    content = bytearray(bundle_path.read_bytes())
    for place, value in edits:
        content[int(place * len(content))] = value
    changed = tmp_path / "mutated.edge"
    changed.write_bytes(content)
    with contextlib.suppress(BundleError):
        try_everything(changed)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 1, exclude_max=True))
def test_bundle__any_truncation_is_our_error(bundle_path: Path, tmp_path: Path, keep: float) -> None:
    content = bundle_path.read_bytes()
    cut = tmp_path / "cut.edge"
    cut.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BundleError):
        try_everything(cut)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(middle=st.binary(max_size=200), count=st.integers(0, 3), size=st.integers(0, 300))
def test_zipstore__random_directory_is_our_error(tmp_path: Path, middle: bytes, count: int, size: int) -> None:
    path = tmp_path / "random.edge"
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, max(0, len(middle) - size), 0)
    path.write_bytes(middle + end)
    with contextlib.suppress(BundleError):
        ZipStore(path).close()
