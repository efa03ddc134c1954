"""Remotes: the verbs that a sync needs, over what fsspec reaches."""
