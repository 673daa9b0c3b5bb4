"""Portwright: one transformer encoder, built for every vendor's hardware, each toolchain in its own container."""

import sys
from pathlib import Path

# The stage library is no package of ours: it is mounted into containers. The host reads its declarations where it lies.
_SHARED = str(Path(__file__).resolve().parent.parent / "shared")
if _SHARED not in sys.path:
    sys.path.insert(0, _SHARED)
