"""What runs on a device without Docker: `python -m stagelib.runner`, out of a bundle that `invoke bundle` packed."""
