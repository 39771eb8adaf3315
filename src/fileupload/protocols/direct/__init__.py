"""Direct uploads: clients send the parts to signed addresses."""
