"""`leads audit`: does every lead add up, with its resume, its event and its e-mails? What is checked: `docs/audit.md`.

`reconcile` is the run. It reads the `stores` as `records`, has each judged by `judge`, keeps what it must look at again
in a `ledger`, and hands `findings` to a `report`.
"""
