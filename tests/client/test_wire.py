"""What leaves the program: the caller's own request, changed as the policy says, without headers that are ours."""

from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

import tierwise
from support.clients import DOORS, router_of
from tierwise.client.paths import Kind, kind_of
from tierwise.sandbox.server import Running


class Noting(httpx2.HTTPTransport):
    """Connections that keep what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.sent.append(request)
        return super().handle_request(request)


def client_by(by: str, session: tierwise.Session, inner: Noting, base_url: str, **options: Any) -> Any:
    told: dict[str, Any] = {"base_url": base_url, "api_key": "any", "max_retries": 0, **options}
    if by == "middleware":
        return anthropic.Anthropic(
            http_client=httpx2.Client(transport=inner), middleware=[tierwise.middleware(session)], **told
        )
    return anthropic.Anthropic(
        http_client=httpx2.Client(transport=tierwise.Transport(session, inner=inner)), **told
    )


@pytest.mark.parametrize("by", DOORS)
def test_headers_of_ours_end_here_and_the_callers_others_go_on(
    by: str, tmp_path: Path, sandbox: Running
) -> None:
    inner = Noting()
    declared = {"x-tierwise-task-type": "extraction"}
    with (
        tierwise.Session(router_of(tmp_path), ledger=None) as session,
        client_by(by, session, inner, sandbox.base_url, default_headers=declared) as client,
    ):
        client.beta.messages.create(
            model="claude-opus-5-5",
            max_tokens=900,
            messages=[{"role": "user", "content": "Hi"}],
            betas=["request-tags-2026-08-21"],
            extra_headers={"X-Tierwise-Run-Id": "run-7", "x-a-later-header": "kept"},
            extra_body={"tags": {"kept": [1, None, "谁"]}},
        )

    (sent,) = inner.sent
    assert [name for name in sent.headers if name.startswith("x-tierwise")] == []
    assert sent.headers["x-a-later-header"] == "kept"
    assert sent.headers["anthropic-beta"] == "request-tags-2026-08-21"
    assert sent.headers["authorization"] == "Bearer any"
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.url.raw_path == b"/v1/messages"
    assert httpx2.Response(200, content=sent.content).json() == {
        "model": "claude-haiku-5-5",
        "max_tokens": 512,
        "messages": [{"role": "user", "content": "Hi"}],
        "tags": {"kept": [1, None, "谁"]},
        "thinking": {"type": "disabled"},
    }


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/messages", Kind.CALL),
        ("post", "/v1/messages?beta=true", Kind.CALL),
        ("POST", "/proxy/of/ours/v1/messages", Kind.CALL),
        ("GET", "/v1/messages", Kind.OTHER),
        ("POST", "/v1/messages/count_tokens?beta=true", Kind.COUNT),
        ("POST", "/v1/messages/batches", Kind.REFUSED),
        ("GET", "/proxy/v1/messages/batches/b1/results", Kind.REFUSED),
        ("POST", "/v1/complete", Kind.REFUSED),
        ("GET", "/v1/models", Kind.OTHER),
        ("POST", "/v1/chat/completions", Kind.REFUSED),
        ("POST", "/v1/responses?beta=true", Kind.REFUSED),
        ("POST", "/proxy/v1/of/ours/responses", Kind.REFUSED),
        ("POST", "/openai/deployments/ours/chat/completions", Kind.REFUSED),
        ("POST", "/v1/embeddings", Kind.REFUSED),
        ("POST", "/messages", Kind.OTHER),
    ],
)
def test_a_request_is_sorted_by_its_method_and_path(method: str, path: str, kind: Kind) -> None:
    assert kind_of(method, path) is kind
