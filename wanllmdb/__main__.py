"""``python -m wanllmdb`` is the command line."""

from wanllmdb.cli import main

main()
