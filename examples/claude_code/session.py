"""A Claude Code session whose subagents name their task types in their files: `.claude/agents/*.md` beside this one.

ANTHROPIC_BASE_URL=http://127.0.0.1:4000 python session.py "Sort this request, then answer it: …"
"""

import asyncio
import sys
from pathlib import Path

from claude_agent_sdk import ClaudeAgentOptions, ResultError, ResultMessage, query


async def main(prompt: str) -> None:
    """Run one session to its end and print its answer. Raises ResultError where it fails."""
    options = ClaudeAgentOptions(cwd=Path(__file__).parent, setting_sources=["project"])
    async for message in query(prompt=prompt, options=options):
        if isinstance(message, ResultMessage) and not message.is_error:
            print(f"session {message.session_id}: {message.result}")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    except ResultError as error:
        sys.exit(str(error))
