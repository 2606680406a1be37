"""A provider that speaks the Messages API on loopback, for tests and demos without a key or a network.

It is the independent witness of every test of money: it imports nothing from the rest of Tierwise, counts
its own tokens, and bills from its own price table.
"""
