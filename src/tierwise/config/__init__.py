"""What Tierwise reads from files: the policy and the prices."""

from tierwise.config.policy import Book, load_book, parse_book
from tierwise.config.starter import starter_policy

__all__ = ["Book", "load_book", "parse_book", "starter_policy"]
