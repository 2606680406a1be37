"""The door inside a Python program: its SDK's calls are routed, capped, budgeted and recorded without a gateway."""
