"""The performance suite: every figure of docs/performance.md, measured anew. `python -m benchmarks --help` says how."""
