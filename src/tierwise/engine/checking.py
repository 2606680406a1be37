"""Checking: whether a whole reply, as it came, passes the check of its task type."""

from tierwise.audit.grading import Answer, Check, read_check
from tierwise.wire.answers import read_content


def passes(written: str, body: bytes) -> bool | None:
    """Say whether a reply passes; None where a check cannot tell: it calls tools, or is no message.

    Args:
        written: the check, as the policy has it.
        body: of a reply that is no stream.
    """
    check, content = read_check(written), read_content(body, stream=False)
    if not isinstance(check, Check) or content is None or content.tool_uses:
        return None
    return check.passes(Answer(text=content.text))
