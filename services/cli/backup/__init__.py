"""`leads backup` and `leads restore`: a copy of leads, e-mails and resumes, taken while all of it is in use.

`take` makes one and `restore` puts one back, each between the `places` of a deployment and a folder that `manifest`
describes. What may have happened since a backup was taken is written down by `doubts`. For people: `docs/backup.md`.
"""
