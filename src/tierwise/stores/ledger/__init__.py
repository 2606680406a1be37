"""The ledger: entries appended, never changed."""
