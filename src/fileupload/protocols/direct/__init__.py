"""Direct uploads: clients send the parts of a file to presigned URLs, or to signed URLs of this server."""
