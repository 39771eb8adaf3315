"""Benchmarks of fileupload and other upload servers: ``python -m bench``."""
