"""Reports: runs as one HTML file that needs no script, no network and no server."""

from wanllmdb._report.page import report_html

__all__ = ["report_html"]
