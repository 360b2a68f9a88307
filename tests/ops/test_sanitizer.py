"""In a sanitized build (make test-sanitize): faults made on purpose are caught, or the set-up would prove
nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastrl import native


def test_a_build_meant_to_be_sanitized_is() -> None:
    if os.environ.get("FASTRL_SANITIZE") != "1":
        pytest.skip("for sanitized builds: make test-sanitize")
    assert native.build_info()["sanitized"] is True


@pytest.mark.parametrize(
    ("call", "report"),
    [
        ("read_past_end(4)", "AddressSanitizer: heap-buffer-overflow"),
        ("overflow(1)", "signed integer overflow"),
    ],
)
def test_faults_are_caught(call: str, report: str) -> None:
    if not native.build_info()["sanitized"]:
        pytest.skip("for sanitized builds: make test-sanitize")
    program = (
        "import torch; from fastrl import native; torch.ops.load_library(str(native.DEV_LIBRARY)); "
        f"torch.ops.fastrl_dev.{call}"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode != 0
    assert report in result.stderr
