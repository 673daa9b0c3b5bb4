"""What docs/performance.md says, measured: each module is a command, `python -m benchmarks.startup --help`."""
