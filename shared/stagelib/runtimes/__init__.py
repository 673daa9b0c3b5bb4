"""Vendor runtimes behind one protocol: one module each, the file's name is the runtime's name."""
