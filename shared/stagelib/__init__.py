"""The stage library: pure steps that run inside a toolchain, mounted read-only into its container.

Nothing here imports `portwright`. At import time a module takes the standard library (and numpy where it computes);
vendor packages are imported inside the one function or module that wraps them, since no toolchain holds them all.
"""
