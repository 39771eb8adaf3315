"""Files attached to the records of Kinto or of another REST API."""
