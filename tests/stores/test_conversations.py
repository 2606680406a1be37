from tierwise.stores.conversations import Conversations


def test_a_conversation_has_the_tier_it_was_given_until_its_time_is_over() -> None:
    conversations = Conversations()
    conversations.keep("a", "frontier", until_us=100)

    assert conversations.tier("a", at_us=99) == "frontier"
    assert conversations.tier("a", at_us=100) is None


def test_an_unknown_conversation_has_no_tier() -> None:
    assert Conversations().tier("a", at_us=0) is None


def test_each_use_gives_a_conversation_its_time_anew() -> None:
    conversations = Conversations()
    conversations.keep("a", "fast", until_us=100)
    conversations.keep("a", "fast", until_us=200)

    assert conversations.tier("a", at_us=150) == "fast"


def test_beyond_the_capacity_the_conversation_not_used_for_longest_is_forgotten() -> None:
    conversations = Conversations(capacity=2)
    conversations.keep("a", "fast", until_us=100)
    conversations.keep("b", "fast", until_us=100)
    conversations.keep("a", "fast", until_us=100)
    conversations.keep("c", "fast", until_us=100)

    assert conversations.tier("b", at_us=0) is None
    assert conversations.tier("a", at_us=0) == "fast"
    assert len(conversations) == 2


def test_a_conversation_past_its_time_is_forgotten_when_it_is_asked_for() -> None:
    conversations = Conversations()
    conversations.keep("a", "fast", until_us=100)

    conversations.tier("a", at_us=100)

    assert len(conversations) == 0
