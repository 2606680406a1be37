"""A function that says what a good answer is."""

import tierwise


def balanced(reply: tierwise.Reply) -> bool | float | None:
    """Every bracket that opens closes."""
    depth = 0
    for character in reply.text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0
