"""Tierwise decides which model tier handles each call of a fleet of agents, and what it may cost."""
