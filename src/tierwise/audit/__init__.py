"""The audit's statistics: what pairs of tiers on the same tasks prove, and what the next pair is worth.

Values in, values out: no clock, no randomness, no I/O. A quality difference is always that of the cheaper tier
minus that of the dearer one, so a negative one speaks for the dearer tier.
"""
