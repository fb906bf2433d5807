"""`make bench-quick` as a test: generous bounds on requests, memory and on what a night costs as the warehouse grows. Never wall time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.quick import findings


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_nothing_collapses(tmp_path: Path) -> None:
    assert [f"{f.told}: {f.counted} (at most {f.most})" for f in findings(tmp_path, print) if not f.held] == []
