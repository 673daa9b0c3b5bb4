"""What runs stage calls: `docker` and `venv`, behind the protocol of `portwright.engines.base`."""
