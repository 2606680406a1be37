"""What a policy must mean: names lead somewhere, models take what tiers ask, caps leave room to think."""

import re
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Final

from tierwise.config.audit import check_shadow
from tierwise.config.budget_checks import check_budgets, check_downgrade, check_task_budget
from tierwise.config.clients import check_clients
from tierwise.config.draft import Draft, less_thinking, meant
from tierwise.config.lines import dotted
from tierwise.config.reading import Notes
from tierwise.config.retry_checks import check_attempts
from tierwise.config.values import shown
from tierwise.core.catalog import MODELS, Model, find, nearest_effort
from tierwise.core.policy import DEFAULT_TYPE, Contract, MatchRule, Tier, cap_floor
from tierwise.core.pricing import PriceBook
from tierwise.core.routing import NO_TRANSLATION
from tierwise.core.tasks import VIRTUAL_PREFIXES
from tierwise.names import nearest


def check(draft: Draft, prices: PriceBook, notes: Notes) -> None:
    """Note everything in a draft that cannot work, and what is probably not meant."""
    tiers = [tier for tier in draft.tiers.values() if tier is not None]
    for tier in tiers:
        _check_tier(tier, prices, notes)
    for contract in draft.contracts.values():
        if contract is not None:
            _check_contract(contract, draft, notes)
    for index, rule in enumerate(draft.rules):
        if rule is not None:
            _check_rule(index, rule, draft, notes)
    check_budgets(draft, notes)
    check_clients(draft, notes)
    _check_order(tiers, prices, notes)
    _check_default(draft, notes)


def _check_tier(tier: Tier, prices: PriceBook, notes: Notes) -> None:
    model = find(tier.model)
    priced = prices.resolve(tier.model) is not None
    if model is not None:
        _check_abilities(tier, model, notes)
    if not priced:
        _note_unpriced(tier, model, notes)
    elif model is None:
        notes.warn(
            ("tiers", tier.name, "model"),
            f"{shown(tier.model)} has a price and is not in the catalogue: bodies go to it as they are",
        )


def _note_unpriced(tier: Tier, model: Model | None, notes: Notes) -> None:
    path = ("tiers", tier.name, "model")
    if model is not None:
        notes.error(path, f"{shown(tier.model)} has no price", "give it one in [[prices]]")
        return
    if _OPENAI_MODEL.match(tier.model):
        notes.error(path, f"{shown(tier.model)} is not a model of the Messages API", _FOR_OPENAI)
        return
    close = nearest(tier.model, (*MODELS, *(alias for known in MODELS.values() for alias in known.aliases)))
    first = f"did you mean {close}? If not," if close else "if it is new,"
    notes.error(
        path,
        f"{shown(tier.model)} is not a model that this version knows",
        f"{first} give it a price in [[prices]]",
    )


_OPENAI_MODEL: Final = re.compile(r"(?:openai/)?(?:gpt-|chatgpt-|o\d)")
_FOR_OPENAI: Final = f"give it to OpenAI's clients, in [openai.tiers.NAME]. {NO_TRANSLATION}"


def _check_abilities(tier: Tier, model: Model, notes: Notes) -> None:
    if tier.effort not in {None, "keep", *model.efforts}:
        _note_effort(tier, model, str(tier.effort), notes)
    if tier.thinking == "off" and model.thinking_off is None:
        notes.error(
            ("tiers", tier.name, "thinking"),
            f"{model.id} always thinks: it cannot be turned off",
            "remove the line, and lower effort to have it think less",
        )
    if tier.thinking_floor is not None and tier.thinking_floor > model.max_output_tokens:
        notes.error(
            ("tiers", tier.name, "thinking_floor"),
            f"{tier.thinking_floor} is more than {model.id} can write: {model.max_output_tokens} tokens",
        )


def _note_effort(tier: Tier, model: Model, effort: str, notes: Notes) -> None:
    path = ("tiers", tier.name, "effort")
    near = nearest_effort(model, effort)
    if near is None:
        notes.error(path, f"{model.id} takes no effort", "remove the line")
    else:
        levels = ", ".join(model.efforts)
        notes.error(path, f"{model.id} does not take {effort}, only {levels}", f'write "{near}"')


def _check_contract(contract: Contract, draft: Draft, notes: Notes) -> None:
    path = ("task_types", contract.name)
    _check_least_cap(contract, notes)
    check_downgrade(contract, draft, notes)
    check_shadow(contract, len(draft.tiers), notes)
    if contract.tier not in draft.tiers:
        message = f"there is no tier {shown(contract.tier)}"
        notes.error((*path, "tier"), message, meant(contract.tier, draft.tiers, "tiers"))
        return
    tier = draft.tiers[contract.tier]
    if tier is None:
        return
    check_task_budget(contract, tier, notes)
    check_attempts(contract, draft, notes)
    if contract.max_tokens is not None:
        _check_cap(contract, contract.max_tokens, tier, draft, notes)
    elif contract.tier == next(iter(draft.tiers)):
        notes.warn(path, "is on the frontier and has no max_tokens: its replies are as long as callers allow")


def _check_least_cap(contract: Contract, notes: Notes) -> None:
    least, most = contract.min_tokens, contract.max_tokens
    if least is not None and most is not None and least > most:
        notes.error(
            ("task_types", contract.name, "min_tokens"),
            f"{least} is more than max_tokens, which is {most}",
            f"write at most {most}, or raise max_tokens",
        )


def _check_cap(contract: Contract, cap: int, tier: Tier, draft: Draft, notes: Notes) -> None:
    path = ("task_types", contract.name, "max_tokens")
    model = find(tier.model)
    if model is not None and cap > model.max_output_tokens:
        message = f"{cap} is more than {model.id} can write"
        notes.error(path, message, f"write at most {model.max_output_tokens}")
    floor = cap_floor(tier, contract)
    if cap < floor:
        notes.error(
            path,
            f"{cap} leaves no room to think: {tier.model} on {tier.name} needs {floor} or more",
            f"raise it to {floor}{_other_way_out(contract, cap, tier, draft)}",
        )


def _other_way_out(contract: Contract, cap: int, tier: Tier, draft: Draft) -> str:
    """What leaves the cap as it is: less thinking on its tier, or another tier."""
    less = less_thinking(contract, tier)
    if less is not None:
        return f", or {less}"
    others = (other for other in draft.tiers.values() if other is not None and find(other.model) is not None)
    roomy = next((other.name for other in others if cap_floor(other, contract) <= cap), None)
    return f', or use tier = "{roomy}": {tier.model} always thinks' if roomy else ""


def _check_rule(index: int, rule: MatchRule, draft: Draft, notes: Notes) -> None:
    path = ("match", index)
    if rule.task_type not in draft.contracts:
        message = f"there is no task type {shown(rule.task_type)}"
        notes.error((*path, "task_type"), message, meant(rule.task_type, draft.contracts, "task types"))
    if rule.model is not None and rule.model.startswith(VIRTUAL_PREFIXES):
        message = "no call reaches this rule: a model of this name has declared its type already"
        notes.error((*path, "model"), message, "remove the rule")
    for before, earlier in enumerate(draft.rules[:index]):
        if earlier is not None and _covers(earlier, rule):
            message = f"no call reaches this rule: {dotted(('match', before))} matches all that it matches"
            notes.error(path, message, "put the narrower rule first, or remove it")
            return


def _covers(earlier: MatchRule, later: MatchRule) -> bool:
    wide, narrow = _conditions(earlier), _conditions(later)
    return all(_is_within(narrow.get(what, "*"), pattern) for what, pattern in wide.items())


def _conditions(rule: MatchRule) -> dict[str, str]:
    named = {"model": rule.model, "user_id": rule.user_id}
    return {what: pattern for what, pattern in named.items() if pattern is not None} | {
        f"headers.{name}": pattern for name, pattern in rule.headers.items()
    }


_ANYTHING: Final = "\0"


def _is_within(narrow: str, wide: str) -> bool:
    """Whether all texts of one pattern are also texts of the other.

    The narrow pattern is matched as if it were a text, whose `*` is a character that only a `*` matches.
    """
    return fnmatchcase(narrow.replace("*", _ANYTHING), wide.replace("?", f"[!{_ANYTHING}]"))


def _check_order(tiers: list[Tier], prices: PriceBook, notes: Notes) -> None:
    if not tiers:
        return
    first, *others = tiers
    dearer = [tier.name for tier in others if _output_price(tier, prices) > _output_price(first, prices)]
    if dearer and _output_price(first, prices):
        notes.warn(
            ("tiers", first.name),
            f"is the first tier and so the frontier, and the tier {dearer[0]} costs more",
            "put the strongest tier first: the order of the file is the order of strength",
        )


_LATEST_US: Final = 2**62


def _output_price(tier: Tier, prices: PriceBook) -> Decimal:
    price = prices.price(tier.model, _LATEST_US)
    return (price.card.output if price else None) or Decimal(0)


def _check_default(draft: Draft, notes: Notes) -> None:
    has_default = DEFAULT_TYPE in draft.contracts
    if not has_default and not draft.strict:
        notes.warn(
            ("task_types",),
            "has no default contract: an unknown type is refused as a model, and ignored in a header",
            "add [task_types.default], or strict = true to say that this is meant",
        )
    if has_default and draft.strict:
        notes.warn(
            ("task_types", DEFAULT_TYPE), "is never used: strict = true refuses types that are not here"
        )
