"""Puts the demo's figures where the pages name them, so that no figure in the docs is typed by hand.

    tierwise demo --json out.json && python tools/fill_figures.py out.json

A page names a figure as `<!-- figure: NAME -->…<!-- /figure -->`. Times differ from run to run.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

PAGES: Final = (Path("docs/explanation/claims.md"),)
_FIGURE: Final = re.compile(r"(<!-- figure: ([\w.]+) -->).*?(<!-- /figure -->)", re.DOTALL)


def figures(demo: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures that pages may name, as they are to be read."""
    spend, caps, added, pairs = demo["spend_usd"], demo["caps"], demo["added_ms"], demo["pairs"]
    overpaying = [
        line for line in demo["by_type"] if line["tier"] == "frontier" and not line["needs_frontier_planted"]
    ]
    overpaid = sum(line["spend_usd"] for line in overpaying)
    at_fast = sum(line["at_fast_usd"] for line in overpaying)
    moved = {**pairs["5.5"], "routed_usd": spend["routed"] - overpaid + at_fast}
    return {
        "calls": f"{demo['calls']:,}",
        "agrees_with_provider": "they agree" if demo["agrees_with_provider"] else "they do not agree",
        **{f"spend_usd.{name}": _usd(amount) for name, amount in spend.items()},
        "spend_usd.provider_total": f"${spend['provider_total']:,.9f}",
        **{f"pairs.{name}.saved_share": _saved(pair) for name, pair in pairs.items()},
        "saved_share_if_moved": _saved(moved),
        "overpaying_share": f"{overpaid / spend['routed']:.1%}",
        "overpaying_usd": _usd(overpaid),
        "overpaying_at_fast_usd": _usd(at_fast),
        "caps.truncated": f"{caps['truncated']:,}",
        "caps.truncation_waste_usd": _usd(caps["truncation_waste_usd"]),
        "caps.output_tokens_not_run": f"{caps['output_tokens_not_run']:,}",
        "caps.not_run_usd": _usd(caps["not_run_usd"]),
        "uncapped_factor": f"{(spend['routed'] + caps['not_run_usd']) / spend['routed']:.2f}",
        "added_ms.p50": f"{added['p50']:.2f}",
        "added_ms.p99": f"{added['p99']:.1f}",
    }


def filled(page: str, by_name: Mapping[str, str]) -> str:
    """Return a page with every named figure in place. Raises KeyError for a name that the demo does not have."""
    return _FIGURE.sub(lambda found: f"{found[1]}{by_name[found[2]]}{found[3]}", page)


def _usd(amount: float) -> str:
    return f"${amount:,.2f}"


def _saved(pair: Mapping[str, float]) -> str:
    return f"{1 - pair['routed_usd'] / pair['all_frontier_usd']:.1%}"


def main() -> None:
    """Fill every page from the demo's figures."""
    by_name = figures(json.loads(Path(sys.argv[1]).read_text()))
    for page in PAGES:
        page.write_text(filled(page.read_text(), by_name))


if __name__ == "__main__":
    main()
