"""Files attached to a browser session, in named bundles."""
