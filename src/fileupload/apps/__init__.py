"""Applications on top of buckets, independent of each other."""
