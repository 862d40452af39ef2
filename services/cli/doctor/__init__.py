"""`leads doctor`: looks a deployment over and says in words what is wrong and how to mend it.

`run.py` carries it out, `report.py` says what was found, `patient.py` is what is looked at; the others hold the checks,
by subject. Nothing is changed: where a check does more than read, its docstring says so.
"""
