"""Ends with 0 where standard input is Python that compiles, with 1 where it is not, with 2 where nobody can tell."""

import re
import sys

FENCE = re.compile(r"\A```\w*\n(.*)\n```\Z", re.DOTALL)


def main() -> int:
    """Read the reply, take the fence away, and have it compiled; nothing is run."""
    text = sys.stdin.read().strip()
    fenced = FENCE.match(text)
    try:
        compile(fenced[1] if fenced else text, "reply", "exec")
    except (SyntaxError, ValueError):
        return 1
    except (MemoryError, RecursionError):
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
