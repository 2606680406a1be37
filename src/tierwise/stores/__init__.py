"""Where things are kept: the ledger, and which tier a conversation is on."""
