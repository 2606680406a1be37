"""Balances of the budgets' accounts: money set aside and settled, in one step over all accounts of a call."""
