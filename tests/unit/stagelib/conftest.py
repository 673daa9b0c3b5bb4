"""A made-up runtime for tests of what runs on a device."""

from __future__ import annotations

from support.fake_bundle import device, table

__all__ = ["device", "table"]
