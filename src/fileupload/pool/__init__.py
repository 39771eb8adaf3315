"""Pools: where uploads live. ``base`` is the contract; the other modules keep it."""
