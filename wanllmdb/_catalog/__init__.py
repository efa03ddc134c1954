"""The Catalog: the only place that knows SQL.

`connection.Database` gives transactions; every other module holds the statements of
one noun, as functions over a connection.
"""
