"""The gateway: an ASGI app that speaks the provider's own API on both sides."""
