"""The HTTP layer that all applications of this package share."""
