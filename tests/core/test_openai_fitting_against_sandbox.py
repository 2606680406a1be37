"""Fitting of OpenAI's calls against a server that wrote down by itself what each model refuses."""

import json
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from itertools import product
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tierwise.core.decision import Decision
from tierwise.core.matrix import Ineligible
from tierwise.core.openai_fitting import fit_openai
from tierwise.core.openai_matrix import KINDS, find
from tierwise.core.policy import OPENAI_EFFORTS
from tierwise.sandbox.openai_models import SERVED
from tierwise.sandbox.server import running
from tierwise.wire.openai_requests import read_chat, read_response
from tierwise.wire.requests import rewrite

CHAT: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
MODELS: Final = [model.id for model in SERVED if not model.searches]
FUNCTION: Final = {"name": "river", "parameters": {"type": "object"}}
PROMPTS: Final[Mapping[str, dict[str, Any]]] = {
    CHAT: {"messages": [{"role": "user", "content": "Name three rivers."}]},
    RESPONSES: {"input": "Name three rivers."},
}

BOTH: Final[Mapping[str, dict[str, Any]]] = {
    "nothing": {},
    "temperature": {"temperature": 0.2},
    "top_p": {"top_p": 0.9},
    "nulls": {"temperature": None, "top_p": None},
}
FEATURES: Final[Mapping[str, Mapping[str, dict[str, Any]]]] = {
    CHAT: {
        **BOTH,
        "defaults": {"temperature": 1, "top_p": 1.0, "presence_penalty": 0, "logprobs": False},
        "penalties": {"presence_penalty": 0.5, "frequency_penalty": 0.1},
        "log probabilities": {"logprobs": True, "top_logprobs": 2},
        "a bias": {"logit_bias": {"50256": -100}},
        "stop": {"stop": ["\n"]},
        "an older cap": {"max_tokens": 60},
        "a cap": {"max_completion_tokens": 60},
        "a cap of 200,000": {"max_completion_tokens": 200_000},
        "an older cap of 200,000": {"max_tokens": 200_000},
        "functions": {"tools": [{"type": "function", "function": FUNCTION}]},
        "functions at none": {
            "tools": [{"type": "function", "function": FUNCTION}],
            "reasoning_effort": "none",
        },
        "temperature at none": {"temperature": 0.2, "reasoning_effort": "none"},
        **{f"effort {effort}": {"reasoning_effort": effort} for effort in OPENAI_EFFORTS},
    },
    RESPONSES: {
        **BOTH,
        "defaults": {"temperature": 1},
        "log probabilities": {"top_logprobs": 2},
        "a cap": {"max_output_tokens": 60},
        "a cap of 200,000": {"max_output_tokens": 200_000},
        "functions": {"tools": [{"type": "function", **FUNCTION}]},
        "a summary": {"reasoning": {"summary": "auto"}},
        "temperature at none": {"temperature": 0.2, "reasoning": {"effort": "none"}},
        **{f"effort {effort}": {"reasoning": {"effort": effort}} for effort in OPENAI_EFFORTS},
    },
}
TABLE: Final = [(path, name) for path, features in FEATURES.items() for name in features]


class Server:
    """The sandbox, over one connection."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def takes(self, path: str, body: bytes) -> bool:
        """Whether a body is answered; anything but an answer and a 400 is an error of the test."""
        self._connection.request("POST", path, body, {"authorization": "Bearer any"})
        response = self._connection.getresponse()
        reply = response.read()
        assert response.status in {200, 400}, reply
        return response.status == 200


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(seed=1) as sandbox:
        connection = HTTPConnection(sandbox.base_url.removeprefix("http://"), timeout=30)
        yield Server(connection)
        connection.close()


def decided(model: str, *, effort: Any = "keep", max_tokens: int = 2**31 - 1) -> Decision:
    return Decision(
        tier="tier",
        model=model,
        max_tokens=max_tokens,
        effort=effort,
        thinking="keep",
        acts=True,
        reasons=(),
    )


def fitted(path: str, body: Mapping[str, Any], decision: Decision) -> bytes | None:
    """The body as it goes out to the decision's model; None where that cannot take it."""
    read = read_chat if path == CHAT else read_response
    call, raw = read(json.dumps(body).encode(), {})
    changes = fit_openai(call, decision)
    return None if isinstance(changes, Ineligible) else rewrite(raw, changes)


def test_every_kind_of_the_table_is_served() -> None:
    served = {model.id for model in SERVED}

    assert [names for names in KINDS if not served & set(names.split())] == ["gpt-3.5-turbo gpt-4-turbo"]
    assert {name for name in MODELS if find(name) is None} == {"sandbox-large", "sandbox-small"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("path", "feature"), TABLE)
def test_a_fitted_body_is_taken_and_one_that_is_changed_or_refused_needs_it(
    server: Server, path: str, feature: str, model: str
) -> None:
    body = {"model": "task/any", **PROMPTS[path], **FEATURES[path][feature]}
    unfitted = {**body, "model": model}

    sent = fitted(path, body, decided(model))

    assert sent is None or server.takes(path, sent), sent
    if sent is None or json.loads(sent) != unfitted:
        assert not server.takes(path, json.dumps(unfitted).encode())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_no_decision_makes_a_body_that_its_model_refuses(server: Server, path: str, model: str) -> None:
    features = ("nothing", "temperature", "functions", "a cap of 200,000", "temperature at none")
    for feature, effort, cap in product(features, ("keep", *OPENAI_EFFORTS), (50, 300_000)):
        body = {"model": "task/any", **PROMPTS[path], **FEATURES[path][feature]}
        sent = fitted(path, body, decided(model, effort=effort, max_tokens=cap))

        assert sent is None or server.takes(path, sent), (feature, effort, cap, sent)


def combined(path: str) -> st.SearchStrategy[dict[str, Any]]:
    """Fields that either table speaks of, in any combination that some model takes."""
    efforts = st.one_of(st.none(), st.sampled_from(OPENAI_EFFORTS))
    tools = [{"type": "function", **({"function": FUNCTION} if path == CHAT else FUNCTION)}]
    optional: dict[str, st.SearchStrategy[Any]] = {
        "temperature": st.sampled_from([0, 0.5, 1, None]),
        "top_p": st.sampled_from([0.5, 1]),
        "tools": st.just(tools),
    }
    if path == CHAT:
        optional |= {
            "presence_penalty": st.sampled_from([0, 1]),
            "logprobs": st.booleans(),
            "stop": st.sampled_from(["x", ["x", "y"]]),
            "reasoning_effort": efforts,
        }
        caps = st.sampled_from(["max_tokens", "max_completion_tokens"])
    else:
        optional["reasoning"] = efforts.map(lambda effort: {"summary": "auto", "effort": effort})
        caps = st.just("max_output_tokens")
    no_cap: dict[str, int] = {}
    cap = st.one_of(
        st.just(no_cap),
        st.tuples(caps, st.sampled_from([20, 20_000, 150_000])).map(lambda pair: dict([pair])),
    )
    return st.tuples(st.fixed_dictionaries({}, optional=optional), cap).map(lambda both: both[0] | both[1])


CALLS: Final = st.sampled_from([CHAT, RESPONSES]).flatmap(
    lambda path: st.tuples(st.just(path), combined(path))
)
IN_SANDBOX: Final = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@IN_SANDBOX
@given(
    call=CALLS,
    model=st.sampled_from(MODELS),
    effort=st.sampled_from(["keep", *OPENAI_EFFORTS]),
    cap=st.sampled_from([50, 20_000, 2**31 - 1]),
)
def test_whatever_is_combined_a_fitted_body_is_taken(
    server: Server, call: tuple[str, dict[str, Any]], model: str, effort: Any, cap: int
) -> None:
    path, fields = call
    body = {"model": "task/any", **PROMPTS[path], **fields}

    sent = fitted(path, body, decided(model, effort=effort, max_tokens=cap))

    assert sent is None or server.takes(path, sent), sent


@IN_SANDBOX
@given(call=CALLS, model=st.sampled_from(MODELS))
def test_whatever_is_combined_a_body_that_is_changed_or_barred_would_be_refused(
    server: Server, call: tuple[str, dict[str, Any]], model: str
) -> None:
    path, fields = call
    body = {"model": "task/any", **PROMPTS[path], **fields}

    sent = fitted(path, body, decided(model))

    if sent is None or json.loads(sent) != {**body, "model": model}:
        assert not server.takes(path, json.dumps({**body, "model": model}).encode()), body


@IN_SANDBOX
@given(call=CALLS, model=st.sampled_from(MODELS))
def test_every_single_change_is_needed(server: Server, call: tuple[str, dict[str, Any]], model: str) -> None:
    path, fields = call
    read = read_chat if path == CHAT else read_response
    asked, raw = read(json.dumps({"model": "task/any", **PROMPTS[path], **fields}).encode(), {})
    changes = fit_openai(asked, decided(model))
    if isinstance(changes, Ineligible):
        return

    for left_out in changes:
        if left_out.path == ("model",) or "max_completion_tokens" in left_out.path:
            continue  # the one that renames is the other half of a removal
        others = tuple(change for change in changes if change is not left_out)
        assert not server.takes(path, rewrite(raw, others)), left_out
