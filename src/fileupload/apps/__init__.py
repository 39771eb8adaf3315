"""The applications on top of buckets, independent of each other."""
