"""Applications on top of buckets: files of a browser session, and files of the records of a REST app."""
