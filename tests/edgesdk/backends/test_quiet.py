from __future__ import annotations

import logging
import os

import pytest

from edgesdk.backends.quiet import captured_stderr


def test_captured_stderr__noise_goes_to_the_log_and_the_rest_comes_through(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), captured_stderr() as lines:
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: the tensor is lost\n")
    assert lines == ["ERROR: the tensor is lost"]
    assert capfd.readouterr().err == "ERROR: the tensor is lost\n"
    assert "Created TensorFlow Lite XNNPACK delegate" in caplog.text


def test_captured_stderr__restores_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), captured_stderr():
        raise ZeroDivisionError
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
