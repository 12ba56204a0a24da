"""What every backend promises: the same tests over each entry point of group `edgesdk.backends`."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgesdk.backends import Availability, Backend, Session, SessionOptions
from edgesdk.errors import BackendError

if TYPE_CHECKING:
    from conftest import Subject  # type: ignore[import-not-found]  # pytest finds it by folder, mypy does not
else:
    Subject = Any

A = np.array([[5, 6, 7, 8]], np.float32)
B = np.array([[1, 2, 3, 4]], np.float32)
OPTIONS = SessionOptions(threads=1)


def test_backend__is_one(subject: Subject) -> None:
    assert isinstance(subject.backend, Backend)
    assert subject.backend.formats


def test_availability__names_the_runtime(subject: Subject) -> None:
    there = subject.backend.availability()
    assert isinstance(there, Availability)
    assert there.available
    assert there.runtime


def test_open__describes_the_boundary(subject: Subject) -> None:
    session = subject.open("arithmetic", inputs=("a", "b"), outputs=("difference", "product"))
    assert isinstance(session, Session)
    assert [(i.name, i.shape, i.dtype) for i in session.inputs] == [
        ("a", (1, 4), np.dtype("float32")),
        ("b", (1, 4), np.dtype("float32")),
    ]
    assert [(o.name, o.shape, o.dtype) for o in session.outputs] == [
        ("difference", (1, 4), np.dtype("float32")),
        ("product", (1, 4), np.dtype("float32")),
    ]
    assert all(tensor.quantization is None for tensor in (*session.inputs, *session.outputs))
    assert "1 thread" in session.description


def test_open__tells_quantization(subject: Subject) -> None:
    session = subject.open("quantized")
    (tensor,) = session.inputs
    assert tensor.dtype == np.int8
    assert tensor.quantization is not None
    assert tensor.quantization.scale == (0.5,)
    assert tensor.quantization.zero_point == (-3,)


def test_run__computes(subject: Subject) -> None:
    difference, product = subject.open("arithmetic").run([A, B])
    np.testing.assert_array_equal(difference, A - B)
    np.testing.assert_array_equal(product, A * B)


def test_run__keeps_the_requested_order(subject: Subject) -> None:
    session = subject.open("arithmetic", inputs=("b", "a"), outputs=("product", "difference"))
    product, difference = session.run([B, A])
    np.testing.assert_array_equal(difference, A - B)
    np.testing.assert_array_equal(product, A * B)


def test_run__returns_only_the_requested_outputs(subject: Subject) -> None:
    (product,) = subject.open("arithmetic", outputs=("product",)).run([A, B])
    np.testing.assert_array_equal(product, A * B)


def test_run__outputs_belong_to_the_caller(subject: Subject) -> None:
    session = subject.open("arithmetic")
    first = session.run([A, B])
    kept = [array.copy() for array in first]
    session.run([A * 10, B])
    for array, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
        array[...] = 0  # and they can be written
    np.testing.assert_array_equal(session.run([A, B])[0], A - B)


def test_run__takes_what_is_not_contiguous(subject: Subject) -> None:
    strided = np.repeat(A, 2, axis=1)[:, ::2]
    assert not strided.flags["C_CONTIGUOUS"] or strided.base is not None
    np.testing.assert_array_equal(subject.open("arithmetic").run([strided, B])[0], A - B)


def test_run__leaves_the_inputs_alone(subject: Subject) -> None:
    a, b = A.copy(), B.copy()
    a.setflags(write=False)
    subject.open("arithmetic").run([a, b])
    np.testing.assert_array_equal(a, A)
    np.testing.assert_array_equal(b, B)


def test_run__wrong_number_of_inputs(subject: Subject) -> None:
    session = subject.open("arithmetic", inputs=("a", "b"))
    for inputs in ([A], [A, B, B], []):
        with pytest.raises(
            BackendError, match=rf"got {len(inputs)} inputs, expected 2. Pass one array each.*a float32"
        ):
            session.run(inputs)


def test_run__wrong_shapes_and_dtypes_are_named_at_once(subject: Subject) -> None:
    session = subject.open("arithmetic", inputs=("a", "b"))
    with pytest.raises(BackendError) as caught:
        session.run([A.astype(np.float64), np.zeros((1, 5), np.float32)])
    text = str(caught.value)
    assert "input 'a': got float64 (1, 4), expected float32 (1, 4). Convert it: array.astype('float32')." in text
    assert "input 'b': got float32 (1, 5), expected float32 (1, 4). Resize or pad it" in text


def test_run__missing_batch_axis(subject: Subject) -> None:
    with pytest.raises(BackendError, match=re.escape("Add the batch axis: array[None].")):
        subject.open("arithmetic").run([A[0], B])


def test_run__foreign_byte_order_is_refused(subject: Subject) -> None:
    with pytest.raises(BackendError, match=re.escape("Convert it: array.astype('float32').")):
        subject.open("arithmetic").run([A.astype(">f4"), B])


def test_run__a_list_is_refused(subject: Subject) -> None:
    wrong: Any = [[5.0, 6.0, 7.0, 8.0]]
    with pytest.raises(BackendError, match=r"got list, expected a numpy array.*numpy.asarray"):
        subject.open("arithmetic").run([wrong, B])


def test_run__works_after_a_refused_input(subject: Subject) -> None:
    session = subject.open("arithmetic")
    with pytest.raises(BackendError):
        session.run([A[0], B])
    np.testing.assert_array_equal(session.run([A, B])[0], A - B)


def test_run__from_another_thread(subject: Subject) -> None:
    session = subject.open("arithmetic")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(session.run([A, B])[0]))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(results[0], A - B)


def test_close__ends_the_session(subject: Subject) -> None:
    session = subject.open("arithmetic")
    session.close()
    session.close()  # idempotent
    with pytest.raises(BackendError, match=r"the session is closed. Open the model again"):
        session.run([A, B])
    with pytest.raises(BackendError, match=r"the session is closed. Open the model again"):
        session.reset()


def test_sessions__are_independent(subject: Subject) -> None:
    one, two = subject.open("arithmetic"), subject.open("arithmetic")
    one.close()
    np.testing.assert_array_equal(two.run([A, B])[0], A - B)


def test_reset__forgets_the_state(subject: Subject) -> None:
    session = subject.open("counter")
    ones = np.ones((1, 4), np.float32)
    assert [float(session.run([ones])[0][0, 0]) for _ in range(3)] == [1, 2, 3]
    session.reset()
    assert [float(session.run([ones])[0][0, 0]) for _ in range(2)] == [1, 2]


def test_reset__does_nothing_to_a_stateless_model(subject: Subject) -> None:
    session = subject.open("arithmetic")
    session.reset()
    np.testing.assert_array_equal(session.run([A, B])[0], A - B)


def test_open__garbage(subject: Subject) -> None:
    with pytest.raises(BackendError, match=r"garbage model: .*(copy it again|Copy it again|write a description)"):
        subject.open("garbage")


def test_open__empty(subject: Subject) -> None:
    with pytest.raises(BackendError, match=r"a model: .*(copy it again|Copy it again|write a description)"):
        subject.backend.open(subject.file(b""), OPTIONS)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_open__truncated(subject: Subject, part: float) -> None:
    content = subject.model("arithmetic").content
    with pytest.raises(BackendError, match="a model: "):
        subject.backend.open(subject.file(content[: int(len(content) * part)]), OPTIONS)


def test_open__unknown_names(subject: Subject) -> None:
    with pytest.raises(BackendError) as caught:
        subject.open("arithmetic", inputs=("a", "bb", "a"))
    text = str(caught.value)
    assert "no input 'bb'." in text
    assert "input 'a' is asked for twice." in text
    assert "Correct the names of this variant in the bundle's manifest" in text


def test_open__missing_input_name(subject: Subject) -> None:
    with pytest.raises(BackendError, match=r"is left out\."):
        subject.open("arithmetic", inputs=("a",))


def test_open__unknown_option(subject: Subject) -> None:
    options = SessionOptions(threads=1, extra={"sesion": {}})
    with pytest.raises(BackendError, match=r"option 'sesion' is unknown\..*Correct the backend's options"):
        subject.backend.open(subject.model("arithmetic"), options)
