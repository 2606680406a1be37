"""The policy without a gateway: which model a task type goes to, and with which cap."""

from dataclasses import replace
from os import PathLike
from typing import Final, Protocol

from tierwise.config import Book, load_book
from tierwise.config.prices import shipped_prices
from tierwise.core.call import Call
from tierwise.core.catalog import find
from tierwise.core.decision import Decision, Reason, Refusal, Why
from tierwise.core.policy import Policy
from tierwise.core.pricing import PriceBook
from tierwise.core.routing import decide
from tierwise.core.tasks import VIRTUAL_PREFIXES, TaskRef, name_task
from tierwise.errors import NoCap, UnknownTaskType


class Typed(Protocol):
    """Any object that says what kind of task it is."""

    @property
    def type(self) -> str:
        """Name of a task type."""
        ...


class Router:
    """Decides by a policy, in process: nothing is sent and nothing is recorded.

    router = Router.from_file("tierwise.toml")
    router.route("extraction").model
    """

    def __init__(self, policy: Policy, *, prices: PriceBook | None = None) -> None:
        """Decide by `policy`; `prices` are what its calls are priced at: None takes those of the package."""
        self._policy: Final = policy
        self._prices: Final = prices

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> "Router":
        """Read a policy file. It is not watched: another edit needs another router.

        Raises:
            PolicyError: the file cannot be read, or something in it is wrong.
        """
        return cls.from_book(load_book(path))

    @classmethod
    def from_book(cls, book: Book) -> "Router":
        """Use a policy that was read already."""
        return cls(book.policy, prices=book.prices)

    @property
    def policy(self) -> Policy:
        """The policy that it decides by."""
        return self._policy

    @property
    def book(self) -> Book:
        """The policy and its prices."""
        return Book(policy=self._policy, prices=shipped_prices() if self._prices is None else self._prices)

    def route(self, task_type: str, *, max_tokens: int | None = None) -> Decision:
        """Decide a call of a task type, as the gateway decides one whose model is `task/TYPE`.

        A type that the policy does not know gets its default contract. The body is not looked at: the gateway, which
        sees it, moves a call whose body the model cannot take.

        Args:
            task_type: Name of the type.
            max_tokens: The cap that the caller would ask for, in tokens; None takes the contract's, else the most
                that the model can write.

        Raises:
            UnknownTaskType: the policy does not know the type, and is strict or has no default contract.
            NoCap: `max_tokens` is None, the contract has no cap, and the catalogue does not know the model.
        """
        virtual = VIRTUAL_PREFIXES[0] + task_type
        asked = _MOST if max_tokens is None else max_tokens
        call = Call(requested_model=virtual, max_tokens=asked)
        task = name_task(call, policy=self._policy)
        decision = decide(call, task, policy=self._policy)
        if isinstance(decision, Refusal):
            raise UnknownTaskType(
                task_type=task_type, nearest=task.nearest_type, known=tuple(sorted(self._policy.contracts))
            )
        assert decision is not None  # no tier is barred
        return decision if max_tokens is not None else self._with_own_cap(decision, task)

    def route_task(self, task: Typed) -> str:
        """Return the model for a task: any object with a `type`; raise as `route` does."""
        return self.route(task.type).model

    def _with_own_cap(self, decision: Decision, task: TaskRef) -> Decision:
        """The decision where the caller asked for no cap."""
        if decision.max_tokens < _MOST:
            sentence = f"No cap was asked for: {decision.max_tokens} is the contract's, with room to think."
            return _capped(decision, decision.max_tokens, sentence)
        model = find(decision.model)
        if model is None:
            raise NoCap(task_type=str(task.type), model=decision.model)
        sentence = (
            f"No cap was asked for and {task.type} has none: {model.max_output_tokens} is the model's most."
        )
        return _capped(decision, model.max_output_tokens, sentence)


_MOST: Final = 2**31 - 1
"""A cap above every contract's."""


def _capped(decision: Decision, max_tokens: int, sentence: str) -> Decision:
    reasons = (
        Reason(why=Why.CAP, sentence=sentence) if reason.why is Why.CAP else reason
        for reason in decision.reasons
    )
    return replace(decision, max_tokens=max_tokens, reasons=tuple(reasons))
