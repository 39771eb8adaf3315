"""Session attachments: files that belong to a browser session, in named bundles."""
