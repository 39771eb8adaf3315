"""The page of the dedicated upload server."""
