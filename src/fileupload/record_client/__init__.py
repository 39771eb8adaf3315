"""A client that uploads and downloads the files of a collection of records."""
