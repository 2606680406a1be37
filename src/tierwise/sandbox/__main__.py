"""`python -m tierwise.sandbox`: serve a provider on loopback until it is told to stop."""

import argparse
import sys
from pathlib import Path

from tierwise.sandbox.fleet import FleetError
from tierwise.sandbox.outcomes import OutcomesError
from tierwise.sandbox.server import DEFAULT_PORT, Options, serve


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when it was told to stop, 2 when it could not start."""
    options = Options(**vars(_parser().parse_args(arguments)))
    try:
        serve(options, ready=lambda url: _say(f"sandbox provider at {url}"))
    except (FleetError, OutcomesError, OSError) as error:
        sys.stderr.write(f"tierwise sandbox: {error}\n")
        return 2
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tierwise.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes any free port")
    parser.add_argument("--seed", type=int, default=0, help="of every draw")
    parser.add_argument("--fleet", type=Path, help="a fleet file; the package's own by default")
    parser.add_argument("--rpm", type=int, help="requests a minute before a 429")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before every reply")
    parser.add_argument("--event-gap-ms", type=float, default=0.0, help="before every event of a stream")
    parser.add_argument(
        "--clock", type=Path, help="a file that tells the time, in place of the machine's clock"
    )
    parser.add_argument("--outcomes", type=Path, help="recorded outcomes, Parquet or JSON lines")
    parser.add_argument(
        "--prompts", type=Path, help="the prompts of the outcomes, to know them by their text"
    )
    parser.add_argument("--weak", help="the recorded model behind the haiku line")
    parser.add_argument("--strong", help="the recorded model behind all other lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
