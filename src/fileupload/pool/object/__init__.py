"""The pool in an object store."""
