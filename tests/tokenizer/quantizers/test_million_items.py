"""Every quantizer stays within its memory setting on a million items, each measured in a process of its own."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from tokenizer.quantizers.spec import Method

MILLION = Path(__file__).with_name("million_items.py")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="peaks of memory are read by means of Linux and glibc")
def test_a_million_items_within_the_memory_setting() -> None:
    done = subprocess.run([sys.executable, str(MILLION)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert {figure["method"] for figure in figures} == set(get_args(Method))
    for figure in figures:
        assert figure["peak_mib"] <= figure["allowed_mib"], figure
