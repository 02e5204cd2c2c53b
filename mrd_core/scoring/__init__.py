"""A score run: from `config.json` to `scores.parquet`, in steps that a restart can pick up.

`files` names what a run directory holds (and loads no torch), `plan` decides, `drawing` draws, `results` reduces,
`job` puts them in order.

A unit of draws depends on nothing but the plan, so any number of processes may draw them, in any order, before
or after a restart: the stopping rule looks at them in order and surplus units are dropped, which makes the
result the same to the last bit.
"""
