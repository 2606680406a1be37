"""The way to the provider, behind a port of one method."""
