"""S3-compatible object stores, through boto3."""
