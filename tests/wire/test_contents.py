import json
from typing import Any

import pytest

from tierwise.core.estimate import Contents
from tierwise.wire.contents import measure
from tierwise.wire.requests import read_request

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}}


def body(*blocks: dict[str, Any], **fields: Any) -> bytes:
    text = {"type": "text", "text": "Describe it."}
    request = {
        "model": "claude-opus-5-5",
        "max_tokens": 512,
        "messages": [{"role": "user", "content": [*blocks, text]}],
    }
    return json.dumps(request | fields).encode()


def measured(raw: bytes) -> Contents:
    return measure(raw, read_request(raw, {})[0])


def test_a_text_is_its_bytes_and_nothing_else() -> None:
    raw = body()

    assert measured(raw) == Contents(
        body_bytes=len(raw), attachments=0, open_ended=False, cache_writes="none"
    )


def test_images_are_counted_wherever_they_stand() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [IMAGE, IMAGE]}

    found = measured(body(IMAGE, result))

    assert (found.attachments, found.open_ended) == (3, False)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}},
    ],
)
def test_a_document_or_what_is_fetched_from_elsewhere_is_open_ended(block: dict[str, Any]) -> None:
    assert measured(body(block)).open_ended


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": [{"type": "url", "name": "issues"}]},
        {"container": "container_1"},
        {"thread": {"id": "thread_1"}},
    ],
)
def test_what_the_provider_holds_or_asks_is_open_ended(fields: dict[str, Any]) -> None:
    assert measured(body(**fields)).open_ended


@pytest.mark.parametrize(
    ("kind", "open_ended"),
    [
        ("web_search_20260209", True),
        ("web_fetch_20260209", True),
        ("code_execution_20260120", True),
        ("tool_search_tool_regex_20251119", True),
        ("advisor_20260301", True),
        ("a_tool_not_known_yet", True),
        ("bash_20250124", False),
        ("text_editor_20250728", False),
        ("computer_20251124", False),
        ("memory_20250818", False),
        ("custom", False),
    ],
)
def test_a_tool_is_open_ended_where_the_provider_runs_it(kind: str, open_ended: bool) -> None:
    raw = body(tools=[{"name": "own", "input_schema": {}}, {"type": kind, "name": "tool"}])

    assert measured(raw).open_ended is open_ended


def test_parameters_named_like_a_source_are_none() -> None:
    schema = {"type": "object", "properties": {"url": {"type": "string"}, "image": {"type": "string"}}}

    found = measured(body(tools=[{"name": "fetch", "input_schema": schema}]))

    assert (found.attachments, found.open_ended) == (0, False)


def test_text_about_the_format_is_text() -> None:
    about = json.dumps({"type": "image", "source": {"type": "url"}, "cache_control": {"ttl": "1h"}})

    found = measured(body({"type": "text", "text": about}))

    assert (found.attachments, found.open_ended, found.cache_writes) == (0, False, "none")


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")])
def test_spaces_between_the_words_hide_nothing(separators: tuple[str, str]) -> None:
    fields = json.loads(body(IMAGE, {"type": "document"}))

    found = measured(json.dumps(fields, separators=separators).encode())

    assert (found.attachments, found.open_ended) == (1, True)


@pytest.mark.parametrize(
    ("mark", "cache_writes"),
    [
        ({"type": "ephemeral"}, "5m"),
        ({"type": "ephemeral", "ttl": "5m"}, "5m"),
        ({"type": "ephemeral", "ttl": "1h"}, "1h"),
    ],
)
def test_the_longest_cache_mark_is_named(mark: dict[str, str], cache_writes: str) -> None:
    short = {"type": "text", "text": "first", "cache_control": {"type": "ephemeral"}}

    assert measured(body(short, cache_control=mark)).cache_writes == cache_writes


def test_an_hour_without_a_cache_mark_is_none() -> None:
    assert measured(body({"type": "text", "text": "1h"})).cache_writes == "none"


@pytest.mark.parametrize(
    "escaped", [rb"im\u0061ge", rb"docume\u006et", rb"file\u005fid", rb"\u0031h", rb"ur\u006C"]
)
def test_where_escapes_could_hide_a_word_the_most_is_assumed(escaped: bytes) -> None:
    raw = body({"type": "text", "text": "HERE"}).replace(b"HERE", escaped)

    found = measured(raw)

    assert (found.open_ended, found.cache_writes) == (True, "1h")


def test_escapes_that_encoders_write_are_no_disguise() -> None:
    raw = body({"type": "text", "text": "HERE é 漢"}).replace(b"HERE", rb"\u003cp\u003e \u0026 \u0027 \u001b")

    found = measured(raw)

    assert (found.open_ended, found.cache_writes) == (False, "none")


def test_a_body_that_begins_a_thread_tells_all_of_its_prompt() -> None:
    assert measured(body(thread={"type": "create"})).plain


def test_a_thread_may_hold_any_cache_mark() -> None:
    assert measured(body(thread={"id": "thread_1"})).cache_writes == "1h"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (body(), "ascii"),
        (json.dumps(json.loads(body(system="Résumé")), ensure_ascii=False).encode(), "unicode"),
        (body(system="Résumé"), "ascii"),
    ],
    ids=["plain", "outside of ascii", "escaped"],
)
def test_the_kind_of_a_text_is_that_of_its_bytes(raw: bytes, kind: str) -> None:
    assert measured(raw).kind == kind


@pytest.mark.parametrize(
    "raw",
    [
        body(mcp_servers=[{"type": "url", "name": "issues"}]),
        body(tools=[{"type": "web_search_20260209", "name": "web_search"}]),
        body(thread={"id": "thread_1"}),
        body().replace(b"claude-opus", b"cl\\u0061ude-opus"),
    ],
    ids=["mcp servers", "tools", "thread", "hidden words"],
)
def test_a_prompt_grows_where_the_provider_may_add_to_it(raw: bytes) -> None:
    assert measured(raw).grows


@pytest.mark.parametrize(
    "block",
    [IMAGE, {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}],
)
def test_a_prompt_that_is_whole_before_it_is_sent_does_not_grow(block: dict[str, Any]) -> None:
    assert not measured(body(block)).grows
