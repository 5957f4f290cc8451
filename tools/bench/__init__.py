"""`python -m tools.bench`: our training beside what people would use instead, on one machine and in one run.

All contestants start from setting.py; contestants.py has ours, rivals.py the others. Each lives in a process of its
own, and they take turns (workers.py).
"""
