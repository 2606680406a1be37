"""The provider's wire: bytes to values and back, pure."""
