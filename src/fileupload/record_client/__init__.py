"""Client for the files of record collections."""
