"""The policy file becomes values: read once, checked as a whole, every problem told with its line."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, Final

from tierwise.config import budget_keys, client_keys, keys, retry_keys
from tierwise.config.audit import read_audit, read_quality
from tierwise.config.audit_keys import SHADOW
from tierwise.config.budgets import read_budget, read_type_budgets
from tierwise.config.checks import check
from tierwise.config.clients import read_client
from tierwise.config.draft import Draft
from tierwise.config.openai import read_openai
from tierwise.config.price_keys import PRICES
from tierwise.config.prices import price_overrides, shipped_prices
from tierwise.config.reading import Notes, Section, listed_sections, located, named_sections, section
from tierwise.config.values import CLIENT_KEY_PREFIX, SECRET
from tierwise.core.policy import Contract, MatchRule, Policy, Tier, Upstream
from tierwise.core.pricing import PriceBook
from tierwise.errors import PolicyError, PolicyProblem, PriceDataError
from tierwise.money import usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What one policy file says: the policy, and the prices with its own in place."""

    policy: Policy
    prices: PriceBook
    warnings: tuple[PolicyProblem, ...] = ()
    """What is probably not meant, in the order of the file. The policy works all the same."""

    @property
    def files(self) -> tuple[str, ...]:
        """The other files that it says something by: a change of one of them is a change of the policy."""
        checks = (contract.check for contract in self.policy.contracts.values())
        return tuple(file for check in checks if check is not None for file in check.files)


def load_book(path: str | PathLike[str], *, prices: PriceBook | None = None) -> Book:
    """Read a policy file.

    Args:
        path: The file.
        prices: Prices that hold where the file has none of its own; None takes those of the package.

    Raises:
        PolicyError: the file cannot be read, or something in it is wrong.
    """
    file = str(path)
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise _unusable(file, "there is no such file", "`tierwise init` writes one") from error
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _unusable(file, "is not UTF-8 text", "save it as UTF-8", line=line) from error
    return parse_book(text, file=file, prices=prices)


def parse_book(text: str, *, file: str, prices: PriceBook | None = None) -> Book:
    """Read the text of a policy file.

    Args:
        text: The whole file.
        file: Its name, for messages; the files that it names are looked for from its folder.
        prices: As for `load_book`.

    Raises:
        PolicyError: something in it is wrong; it carries every problem that was found.
    """
    document = _toml(text, file)
    version = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    notes = Notes()
    top = _opened(document, notes)
    book = _with_own_prices(top, shipped_prices() if prices is None else prices, version)
    draft = _draft(top, Path(file).absolute().parent)
    check(draft, book, notes)
    openai = read_openai(top, draft.tiers, book)
    policy = Policy(
        tiers={name: tier for name, tier in draft.tiers.items() if tier is not None},
        contracts={name: contract for name, contract in draft.contracts.items() if contract is not None},
        rules=tuple(rule for rule in draft.rules if rule is not None),
        mode=draft.mode,
        strict=draft.strict,
        durability=top.take(keys.DURABILITY) or _PLAIN.durability,
        conversation_ttl_s=top.take(keys.CONVERSATION_TTL) or _PLAIN.conversation_ttl_s,
        keep_for_s=top.take(budget_keys.KEEP_FOR) or _PLAIN.keep_for_s,
        queue_for_s=top.take(budget_keys.QUEUE_FOR) or _PLAIN.queue_for_s,
        prompt_bound=top.take(budget_keys.PROMPT_BOUND) or _PLAIN.prompt_bound,
        count_near_limit=top.take(budget_keys.COUNT_NEAR_LIMIT) is not False,
        budget_store=draft.budget_store,
        when_lost=draft.when_lost or _PLAIN.when_lost,
        warn_url=top.take(budget_keys.WARN_URL),
        budgets=tuple(budget for budget in draft.budgets if budget is not None),
        clients=tuple(client for client in draft.clients if client is not None),
        time_zone=top.take(keys.TIME_ZONE) or _PLAIN.time_zone,
        upstream=_upstream(top),
        audit=read_audit(top),
        version=version,
    )
    if openai is not None:
        policy = replace(policy, openai=openai.policy(policy))
    problems = [*located(notes.errors, text), *_secrets(text)]
    if problems:
        raise PolicyError(file=file, problems=tuple(sorted(problems, key=lambda problem: problem.line or 0)))
    return Book(policy=policy, prices=book, warnings=located(notes.warnings, text))


_PLAIN: Final = Policy(tiers={}, contracts={})
"""What holds where the file says nothing."""


def _unusable(file: str, message: str, fix: str | None = None, *, line: int | None = None) -> PolicyError:
    return PolicyError(file=file, problems=(PolicyProblem(path="", line=line, message=message, fix=fix),))


_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")

_SYNTAX: Final = (
    (re.compile(r"Cannot declare \((.*?),?\) twice"), "this table is there already", "keep one of the two"),
    (re.compile("Cannot overwrite a value"), "this key is there already", "keep one of the two"),
    (
        re.compile(r"Unterminated string|Illegal character '\\n'"),
        "a string has no end",
        "close it with a quote",
    ),
    (
        re.compile("Invalid value"),
        "this is not a value",
        "put text in quotes; write true, false and numbers without",
    ),
)
"""Messages of the standard library's parser, and what people are told; others are passed on."""


def _toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(str(error), text, file) from error
    except (ValueError, RecursionError) as error:
        raise _unusable(
            file, "is not a policy: a number is too long, or lists are nested too deeply"
        ) from error


def _not_toml(told: str, text: str, file: str) -> PolicyError:
    place = _PLACE.search(told)
    line = int(place[1]) if place and place[1] else text.rstrip().count("\n") + 1
    for pattern, message, fix in _SYNTAX:
        if pattern.match(told):
            return _unusable(file, message, fix, line=line)
    plain = SECRET.sub("…", _PLACE.sub("", told))
    return _unusable(file, f"not TOML: {plain}", "text needs quotes, and each key its own line", line=line)


def _secrets(text: str) -> list[PolicyProblem]:
    """Everything in the text, comments too, that looks like a credential of the provider or a client's key."""
    found = [(number, SECRET.search(line)) for number, line in enumerate(text.split("\n"), start=1)]
    return [
        PolicyProblem(
            path="",
            line=number,
            message="a credential stands here, and the policy is for everybody to read",
            fix=_NEW_CLIENT_KEY if secret[0].startswith(CLIENT_KEY_PREFIX) else _NEW_PROVIDER_KEY,
        )
        for number, secret in found
        if secret is not None
    ]


_NEW_PROVIDER_KEY: Final = "revoke it, and set ANTHROPIC_API_KEY in the environment to another"
_NEW_CLIENT_KEY: Final = (
    "make another with `tierwise client-key NAME`, and write the key_sha256 that it prints"
)


def _opened(document: dict[str, Any], notes: Notes) -> Section:
    top = section(keys.TOP, (), document, notes)
    assert top is not None
    return top


def _draft(top: Section, folder: Path) -> Draft:
    tiers = named_sections(keys.TIERS, top.values.get("tiers", {}), top.notes)
    types = named_sections(keys.TASK_TYPES, top.values.get("task_types", {}), top.notes)
    rules = listed_sections(keys.MATCH, top.values.get("match", []), top.notes)
    budgets = listed_sections(budget_keys.BUDGETS, top.values.get("budgets", []), top.notes)
    clients = listed_sections(client_keys.CLIENTS, top.values.get("clients", []), top.notes)
    if top.values.get("tiers", {}) == {}:
        top.notes.error((), "the policy has no tier", "`tierwise init` writes a policy to start from")
    return Draft(
        tiers={name: tier and _tier(name, tier) for name, tier in tiers.items()},
        contracts={name: contract and _contract(name, contract, folder) for name, contract in types.items()},
        rules=tuple(rule and _rule(rule) for rule in rules),
        budgets=tuple(budget and read_budget(budget) for budget in budgets),
        clients=tuple(client and read_client(client) for client in clients),
        mode=top.take(keys.MODE) or _PLAIN.mode,
        strict=top.take(keys.STRICT) or False,
        budget_store=top.take(budget_keys.BUDGET_STORE),
        when_lost=top.take(budget_keys.BUDGET_STORE_LOST),
    )


def _tier(name: str, section: Section) -> Tier | None:
    model = section.take(keys.MODEL)
    effort = section.take(keys.EFFORT)
    thinking = section.take(keys.THINKING)
    floor = section.take(keys.THINKING_FLOOR)
    if model is None:
        return None
    return Tier(name=name, model=model, effort=effort, thinking=thinking or "keep", thinking_floor=floor)


def _contract(name: str, section: Section, folder: Path) -> Contract | None:
    tier = section.take(keys.TIER)
    max_tokens = section.take(keys.MAX_TOKENS)
    min_tokens = section.take(keys.MIN_TOKENS)
    max_cost = section.take(keys.MAX_COST)
    budgets = read_type_budgets(name, section)
    downgrade_to = section.take(budget_keys.DOWNGRADE_TO)
    task_budget = section.take(budget_keys.TASK_BUDGET)
    effort = section.take(keys.KEEP_EFFORT)
    thinking = section.take(keys.KEEP_THINKING)
    mode = section.take(keys.TYPE_MODE)
    shadow = section.take(SHADOW) or False
    check, margin, autopilot = read_quality(section, folder)
    description = section.take(keys.DESCRIPTION)
    on_truncation = section.take(retry_keys.ON_TRUNCATION)
    cascade = section.take(retry_keys.CASCADE) or False
    fallback = section.take(retry_keys.FALLBACK)
    if tier is None:
        return None
    return Contract(
        name=name,
        tier=tier,
        max_tokens=max_tokens,
        effort=effort,
        thinking=thinking,
        mode=mode,
        min_tokens=min_tokens,
        max_cost_nanos=None if max_cost is None else usd(max_cost),
        budgets=budgets,
        downgrade_to=downgrade_to,
        task_budget=task_budget,
        on_truncation=on_truncation or "return",
        fallback=fallback,
        description=description,
        shadow=shadow,
        margin_points=margin,
        check=check,
        autopilot=autopilot,
        cascade=cascade,
    )


def _rule(section: Section) -> MatchRule | None:
    """The rule; None where anything in it does not fit, for without a condition it would match too much."""
    before = len(section.notes.errors)
    task_type = section.take(keys.TASK_TYPE)
    model = section.take(keys.MATCH_MODEL)
    user_id = section.take(keys.MATCH_USER_ID)
    headers = _headers(section)
    conditions = (model, user_id, *headers.values())
    if task_type is None or not any(conditions) or len(section.notes.errors) > before:
        return None
    return MatchRule(task_type=task_type, model=model, headers=headers, user_id=user_id)


_HEADER_NAME: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


def _headers(section: Section) -> dict[str, str]:
    headers: dict[str, str] = {}
    if section.values.get(keys.MATCH_HEADERS.name) == {}:
        section.notes.error(
            (*section.path, keys.MATCH_HEADERS.name), "is empty", "name a header, or remove it"
        )
    for name, pattern in section.take_table(keys.MATCH_HEADERS):
        path = (*section.path, keys.MATCH_HEADERS.name, name)
        if not _HEADER_NAME.fullmatch(name):
            section.notes.error(path, "is not the name of a header")
        elif name.lower() in _CREDENTIAL_HEADERS:
            section.notes.error(path, "cannot be matched: credentials are never looked at", "remove the line")
        elif name.lower() in headers:
            section.notes.error(path, "is there twice: capitals make no difference", "keep one of the two")
        headers[name.lower()] = pattern
    return headers


def _upstream(top: Section) -> Upstream:
    found = section(keys.UPSTREAM, ("upstream",), top.values.get("upstream", {}), top.notes)
    if found is None:
        return Upstream()
    plain = Upstream()
    retries = found.take(retry_keys.RETRIES)
    return Upstream(
        base_url=found.take(keys.BASE_URL) or plain.base_url,
        proxy=found.take(keys.PROXY),
        ca_file=found.take(keys.CA_FILE),
        connect_timeout_s=float(found.take(keys.CONNECT_TIMEOUT) or plain.connect_timeout_s),
        read_timeout_s=float(found.take(keys.READ_TIMEOUT) or plain.read_timeout_s),
        fallback_urls=found.take(retry_keys.FALLBACK_URLS) or (),
        retries=plain.retries if retries is None else retries,
        retry_for_s=found.take(retry_keys.RETRY_FOR) or plain.retry_for_s,
        retry_timeouts=found.take(retry_keys.RETRY_TIMEOUTS) is not False,
        client=found.take(keys.CLIENT) or plain.client,
    )


def _with_own_prices(top: Section, prices: PriceBook, version: str) -> PriceBook:
    """The prices with the policy's `[[prices]]` in place, those that can be used."""
    listed = listed_sections(PRICES, top.values.get("prices", []), top.notes)
    tables = _usable_together([table for table in listed if table is not None and _fits(table)], prices)
    if not tables:
        return prices
    return prices.with_overrides(price_overrides(tables, known=prices), version=f"{prices.version}+{version}")


def _fits(section: Section) -> bool:
    """Whether every key of a price table and of the tables in it holds a value of its kind."""
    before = len(section.notes.errors)
    for key in section.table.keys:
        section.take(key)
    for part in section.inner():
        _fits(part)
    return len(section.notes.errors) == before


def _usable_together(tables: list[Section], prices: PriceBook) -> list[Mapping[str, Any]]:
    """The tables that make sense one upon the other, by day; what is wrong with the rest is noted."""
    usable: dict[tuple[str, date | None], Mapping[str, Any]] = {}
    for table in sorted(tables, key=lambda table: table.values.get("from") or date.min):
        model_and_day = (table.values["model"], table.values.get("from"))
        if model_and_day in usable:
            table.notes.error(table.path, "has the model and the day of another table", "keep one of the two")
            continue
        try:
            price_overrides([*usable.values(), table.values], known=prices)
        except PriceDataError as error:
            table.notes.error(table.path, error.why)
        else:
            usable[model_and_day] = table.values
    return list(usable.values())
