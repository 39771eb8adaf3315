"""Record attachments: files that belong to the records of Kinto or of another REST API."""
