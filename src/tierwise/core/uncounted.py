"""Why nobody can tell beforehand what a call costs at most, so that no hard budget can hold it."""

from tierwise.core.call import UNCAPPED
from tierwise.core.decision import Refusal
from tierwise.core.openai_extras import searches_unasked
from tierwise.core.planning import Plan


def why_uncounted(plan: Plan, model: str) -> Refusal | None:
    """Refuse a call whose cost its tokens do not bound; None where they do. Only OpenAI's clients make such calls.

    Args:
        plan: what the call would be sent as.
        model: the model that it would be sent to.
    """
    if plan.call.family != "openai":
        return None
    if plan.call.stored_prompt:
        return _billed_apart(
            "prompt", "a stored prompt may bring tools that are billed", "send what it holds"
        )
    if searches_unasked(model):
        return _billed_apart(model, "its searches are billed", "call another model")
    return _uncapped(plan) if plan.decision.max_tokens == UNCAPPED else None


def unpriced(model: str) -> Refusal:
    """Refuse a call to a model that has no price."""
    return Refusal(
        code="unpriced",
        sentence=f"{model} has no price, and a budget cannot hold what it cannot count: give it a price in "
        "[[prices]] of the policy, or call another model.",
    )


def _billed_apart(what: str, why: str, instead: str) -> Refusal:
    return Refusal(
        code="unpriced",
        sentence=f"{what}: {why} beside the tokens, and a budget cannot hold what it cannot count: {instead}.",
    )


def _uncapped(plan: Plan) -> Refusal:
    return Refusal(
        code="unpriced",
        sentence=f"Nothing says how long the reply may become, and a budget cannot hold what it cannot count: send "
        f"{plan.call.cap_path[-1]}, or give the task type max_tokens, or its tier, in [openai.tiers.NAME].",
    )
