"""`[openai]` becomes values: where its calls go, and what each tier is there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tierwise.config import keys, openai_keys, retry_keys
from tierwise.config.draft import meant
from tierwise.config.reading import Section, named_sections, section
from tierwise.config.values import shown
from tierwise.core.policy import Policy, Tier, Upstream
from tierwise.core.pricing import PriceBook


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAI:
    """What serves OpenAI's clients."""

    upstream: Upstream
    tiers: Mapping[str, Tier]

    def policy(self, policy: Policy) -> Policy:
        """Return the policy for their calls: other tiers, another upstream, and nothing that compares replies."""
        tiers = {name: self.tiers[name] for name in policy.tiers if name in self.tiers}
        contracts = {
            name: replace(contract, shadow=False, cascade=False)
            for name, contract in policy.contracts.items()
        }
        return replace(policy, tiers=tiers, contracts=contracts, upstream=self.upstream)


def read_openai(top: Section, tiers: Mapping[str, object], prices: PriceBook) -> OpenAI | None:
    """Read the table and check it; None where it is not there, or cannot be used."""
    if keys.OPENAI.key not in top.values:
        return None
    found = section(keys.OPENAI, ("openai",), top.values["openai"], top.notes)
    if found is None:
        return None
    upstream = _upstream(found)
    members = named_sections(
        openai_keys.OPENAI_TIERS, found.values.get("tiers", {}), top.notes, path=("openai",)
    )
    own = {name: each and _tier(name, each) for name, each in members.items()}
    if not own:
        top.notes.error(("openai",), "has no tier", "add [openai.tiers.NAME] for each tier of [tiers]")
    for name, tier in own.items():
        if name not in tiers:
            message = f"there is no tier {shown(name)}"
            top.notes.error(("openai", "tiers", name), message, meant(name, tiers, "tiers"))
        elif tier is not None:
            _check_price(tier, prices, found)
    if upstream is None:
        return None
    return OpenAI(upstream=upstream, tiers={name: tier for name, tier in own.items() if tier is not None})


def _upstream(found: Section) -> Upstream | None:
    plain = Upstream()
    base_url = found.take(openai_keys.OPENAI_BASE_URL)
    cap_field = found.take(openai_keys.CAP_FIELD)
    retries = found.take(retry_keys.RETRIES)
    proxy, ca_file = found.take(keys.PROXY), found.take(keys.CA_FILE)
    connect_s, read_s = found.take(keys.CONNECT_TIMEOUT), found.take(keys.READ_TIMEOUT)
    retry_for, retry_timeouts = found.take(retry_keys.RETRY_FOR), found.take(retry_keys.RETRY_TIMEOUTS)
    if base_url is None:
        return None
    return Upstream(
        base_url=base_url,
        proxy=proxy,
        ca_file=ca_file,
        connect_timeout_s=float(connect_s or plain.connect_timeout_s),
        read_timeout_s=float(read_s or plain.read_timeout_s),
        retries=plain.retries if retries is None else retries,
        retry_for_s=retry_for or plain.retry_for_s,
        retry_timeouts=retry_timeouts is not False,
        cap_field=cap_field or plain.cap_field,
    )


def _tier(name: str, found: Section) -> Tier | None:
    model = found.take(openai_keys.OPENAI_MODEL)
    effort = found.take(openai_keys.OPENAI_EFFORT)
    max_tokens = found.take(openai_keys.OPENAI_CAP)
    floor = found.take(openai_keys.OPENAI_FLOOR)
    if model is None:
        return None
    return Tier(
        name=name,
        model=model,
        effort=effort or "keep",
        thinking_floor=0 if floor is None else floor,
        max_tokens=max_tokens,
    )


_LATEST_US = 2**62


def _check_price(tier: Tier, prices: PriceBook, found: Section) -> None:
    path = ("openai", "tiers", tier.name, "model")
    price = prices.price(tier.model, _LATEST_US)
    if price is None:
        found.notes.warn(
            path,
            f"{shown(tier.model)} has no price: its calls are recorded as unpriced, and a hard budget refuses them",
            "give it one in [[prices]]",
        )
    elif price.card.cache_read is None:
        found.notes.warn(
            path,
            f"{shown(tier.model)} has no price for what is read from a cache: the cost of such a call is not known",
            "give it cache_read_usd_per_mtok in [[prices]]",
        )
