"""`leads migrate`: the rows of a deployment from SQLite into PostgreSQL, most of them while it is in use.

`move` is the story, between the `source` of a room and its `target`, row by row as `rows` has them. Each run makes the
target what the source is, so it may be run again and again; the last one finds nobody at the source, compares every
row, and only then lets the rooms into the target. For people: `docs/postgresql.md`.
"""
