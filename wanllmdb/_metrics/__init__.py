"""The log: one private append-only file per (run, writing process, kind).

`segment` is the format, `writer` appends, `decode` reads back, `fold` sums up and
`scan` makes Arrow tables. Bytes are documented in docs/format.md.
"""
