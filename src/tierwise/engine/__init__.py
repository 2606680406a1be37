"""The drivers of the exchange: what performs its effects."""
