"""Freed memory is kept for the next allocation where the C library can do so."""

import os
import subprocess
import sys

import pytest

from fastrl.runs import allocator

FAULTS = """
import resource, torch
from fastrl.runs.allocator import keep_freed_memory
kept = keep_freed_memory() is not None if {keep} else None
def work():
    for _ in range(200):
        blocks = [torch.ones(500_000) for _ in range(4)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in allocator.ENVIRONMENT}
    run = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)],
        capture_output=True,
        text=True,
        check=True,
        env=clean | environment,
    )
    done, faults = run.stdout.split()
    return done, int(faults)


def test_memory_that_is_freed_is_not_fetched_anew():
    done, faults = page_faults(True)
    if done != "True":
        pytest.skip("the C library is not glibc, or an allocator was chosen: there is nothing to set")
    assert faults < 200  # 800 blocks of 2 MB, of 488 pages each


def test_an_allocator_that_the_user_has_set_up_is_left_alone():
    assert page_faults(True, MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
