"""`python -m tools.bench`: our training beside what people would use instead, on one machine and in one run.

Contestants are in contestants.py. Each lives in a process of its own (workers.py) and they take turns, round by
round (rounds.py), so that a machine that slows down for a while slows down all of them.
"""

from tools.bench.command import main

__all__ = ["main"]
