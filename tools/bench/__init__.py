"""`python -m tools.bench`: our training beside what people would use instead, on one machine and in one run.

setting.py holds what all contestants start from; contestants.py ours and the table of all; rivals.py what people would
use instead. Each contestant lives in a process of its own, and they take turns (workers.py).
"""
