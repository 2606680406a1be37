"""`tierwise prices`: what the models cost, now or on another day."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tierwise.cli.console import new_table, out, print_json, say
from tierwise.cli.options import DEFAULT_POLICY, JsonOption
from tierwise.config import load_book
from tierwise.config.prices import shipped_prices
from tierwise.core.pricing import BUCKETS, Card, Price, PriceBook
from tierwise.engine.clock import now_us

_HEADINGS: Final = ("input", "output", "cache read", "5m write", "1h write")


def prices(
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at", metavar="DATE", formats=["%Y-%m-%d"], help="On this day, in UTC, in place of now."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            envvar="TIERWISE_POLICY",
            help=f"A policy, for its own [[prices]]; {DEFAULT_POLICY} where there is one.",
            dir_okay=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what the models cost.

    In US dollars for a million tokens. A model with dearer long prompts or a fast mode has a line for each. The
    policy's own prices are in place where there is a policy.

    Example: tierwise prices --at 2026-10-06
    """
    book = _book(policy)
    at_us = now_us() if at is None else int(at.replace(tzinfo=UTC).timestamp()) * 1_000_000
    found = [price for model in book.models() if (price := book.price(model, at_us)) is not None]
    if as_json:
        print_json({"price_version": book.version, "at_us": at_us, "prices": list(map(_price_json, found))})
    else:
        _print(found, book)


def _book(policy: Path | None) -> PriceBook:
    if policy is None and not DEFAULT_POLICY.is_file():
        return shipped_prices()
    return load_book(policy or DEFAULT_POLICY).prices


def _print(found: list[Price], book: PriceBook) -> None:
    table = new_table("model", "since", *_HEADINGS, numbers=_HEADINGS)
    for price in found:
        since = "" if price.effective_from is None else str(price.effective_from)
        for name, card in _cards(price):
            table.add_row(name, since, *(_dollars(getattr(card, bucket)) for bucket in BUCKETS))
    out.print(table)
    terms = book.terms
    searches = terms.server_tools["web_search"]
    say(
        f"US dollars for a million tokens. Message Batches × {terms.batch}, US-only inference × {terms.us_only}."
    )
    say(f"A web search costs ${searches.usd / searches.per}. Prices {book.version}.")


def _cards(price: Price) -> Iterator[tuple[str, Card]]:
    yield price.model, price.card
    if price.long_prompt is not None:
        yield f"  prompt over {price.long_prompt.above_prompt_tokens:,}", price.long_prompt.card
    if price.fast is not None:
        yield "  fast mode", price.fast


def _dollars(usd_per_mtok: Decimal | None) -> str:
    """At least two places, and as many as the price has."""
    if usd_per_mtok is None:
        return "unknown"
    exact = usd_per_mtok.normalize()
    return f"{exact:.2f}" if exact == round(exact, 2) else f"{exact:f}"


def _price_json(price: Price) -> dict[str, Any]:
    """A price under the names of the policy's `[[prices]]`."""
    long_prompt = price.long_prompt
    return {
        "model": price.model,
        "from": price.effective_from,
        **_card_json(price.card),
        "long_prompt": long_prompt
        and {"above_prompt_tokens": long_prompt.above_prompt_tokens, **_card_json(long_prompt.card)},
        "fast": price.fast and _card_json(price.fast),
        "us_surcharge": price.us_surcharge,
        "source": price.source,
    }


def _card_json(card: Card) -> dict[str, Decimal | None]:
    return {f"{bucket}_usd_per_mtok": getattr(card, bucket) for bucket in BUCKETS}
