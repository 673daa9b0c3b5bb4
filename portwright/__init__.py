"""Portwright: one transformer encoder, built for every vendor's hardware, each toolchain in its own container."""
