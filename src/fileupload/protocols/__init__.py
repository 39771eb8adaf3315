"""Protocols: the ways in. Each knows the pool's contract, and no concrete pool."""
