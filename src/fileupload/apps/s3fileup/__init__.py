"""An app to mount: presigned URLs for direct uploads, with the requests of django-s3fileup and of Uppy."""
