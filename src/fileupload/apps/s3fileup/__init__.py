"""An app to mount: signed addresses for uploads straight into the pool, as django-s3fileup and Uppy ask for them."""
