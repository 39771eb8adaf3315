"""Pools store uploads: the contract (``base``, ``direct``, ``parts``, ``index``), and its implementations."""
