"""The registry: models, whose versions link to versions of artifacts."""

from __future__ import annotations

import sqlite3


def links_to(connection: sqlite3.Connection, version: int) -> list[str]:
    """The models' versions, as ``model NAME:vN``, that link to a version."""
    rows = connection.execute(
        "SELECT 'model ' || model.name || ':v' || model_version.number"
        " FROM model_version JOIN model ON model.id = model_id"
        " WHERE version_id = ? ORDER BY 1",
        (version,),
    )
    return [text for (text,) in rows.fetchall()]
