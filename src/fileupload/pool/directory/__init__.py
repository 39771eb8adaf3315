"""The pool in a shared directory."""
