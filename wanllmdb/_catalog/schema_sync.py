"""The part of the schema that serves sync (DESIGN section 10): what version 4 added.

Triggers note every change of what syncs, so that no writer can forget it: `change`
says which things to look at, and the register `record` of a run is stamped whenever
its state, numbers or surroundings change here.
"""

from __future__ import annotations

TABLES = """
-- A named place to sync with; never a secret. `uid` is what its wanllmdb.json says.
CREATE TABLE remote (
    name          TEXT PRIMARY KEY,
    url           TEXT NOT NULL,
    endpoint_url  TEXT,
    profile       TEXT,
    path_style    INTEGER NOT NULL DEFAULT 0,
    single_writer INTEGER NOT NULL DEFAULT 0,
    is_default    INTEGER NOT NULL DEFAULT 0,
    uid           TEXT NOT NULL,
    added_us      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX remote_default ON remote (is_default) WHERE is_default = 1;

-- How far this Store and a remote know each other. `seq`: our last batch there;
-- `change_id`, `event_id`: up to where changes and events were looked at for it;
-- `nonce`: of a batch that is being written, and may be there already.
CREATE TABLE sync_state (
    remote    TEXT PRIMARY KEY,
    device    TEXT NOT NULL,
    seq       INTEGER NOT NULL DEFAULT 0,
    change_id INTEGER NOT NULL DEFAULT 0,
    event_id  INTEGER NOT NULL DEFAULT 0,
    synced_us INTEGER,
    failed    TEXT,
    nonce     TEXT
) STRICT, WITHOUT ROWID;

-- The last batch of each other device that was applied here.
CREATE TABLE sync_cursor (
    remote TEXT NOT NULL,
    device TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    CONSTRAINT sync_cursor_once PRIMARY KEY (remote, device)
) STRICT, WITHOUT ROWID;

-- Batches of which something could not be applied yet, to be looked at again.
CREATE TABLE sync_deferred (
    remote TEXT NOT NULL,
    device TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT sync_deferred_once PRIMARY KEY (remote, device, seq)
) STRICT, WITHOUT ROWID;

-- What a remote was last told, or told us, of a thing: the digest of its document.
-- `change_id`: the change by which it came to be so here; it is no news there.
CREATE TABLE sync_document (
    remote    TEXT NOT NULL,
    entity    TEXT NOT NULL,
    uid       TEXT NOT NULL,
    digest    TEXT NOT NULL,
    change_id INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT sync_document_once PRIMARY KEY (remote, entity, uid)
) STRICT, WITHOUT ROWID;

-- How much of a stream a remote holds: items (rows, and writes into the summary), and
-- the rows among them.
CREATE TABLE sync_rows (
    remote TEXT NOT NULL,
    run    TEXT NOT NULL,
    token  TEXT NOT NULL,
    kind   TEXT NOT NULL,
    items  INTEGER NOT NULL,
    rows   INTEGER NOT NULL,
    CONSTRAINT sync_rows_once PRIMARY KEY (remote, run, token, kind)
) STRICT, WITHOUT ROWID;

-- Where the bytes of a digest lie at a remote: `size` bytes of `key`, from `first` on.
CREATE TABLE sync_object (
    remote TEXT NOT NULL,
    digest TEXT NOT NULL,
    key    TEXT NOT NULL,
    first  INTEGER NOT NULL,
    size   INTEGER NOT NULL,
    CONSTRAINT sync_object_once PRIMARY KEY (remote, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX sync_object_by_key ON sync_object (remote, key);
CREATE INDEX sync_object_by_digest ON sync_object (digest);

-- The last generation of an alias that is known of a remote; no target: removed.
CREATE TABLE sync_alias (
    remote    TEXT NOT NULL,
    artifact  TEXT NOT NULL,
    alias_key TEXT NOT NULL,
    gen       INTEGER NOT NULL,
    target    TEXT,
    CONSTRAINT sync_alias_once PRIMARY KEY (remote, artifact, alias_key)
) STRICT, WITHOUT ROWID;

-- What two laptops did that no rule can settle for good: shown until it is resolved.
CREATE TABLE conflict (
    id          INTEGER PRIMARY KEY,
    remote      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    entity      TEXT NOT NULL,
    uid         TEXT NOT NULL,
    mine        TEXT NOT NULL,
    theirs      TEXT NOT NULL,
    found_us    INTEGER NOT NULL,
    resolved_us INTEGER,
    CONSTRAINT conflict_once UNIQUE (kind, uid, mine, theirs)
) STRICT;

-- Lineage to runs that are not here: `direction` as in table edge, or ``made`` of the
-- run that made the version.
CREATE TABLE sync_edge (
    version   TEXT NOT NULL,
    run       TEXT NOT NULL,
    direction TEXT NOT NULL,
    at_us     INTEGER NOT NULL,
    CONSTRAINT sync_edge_once PRIMARY KEY (version, run, direction)
) STRICT, WITHOUT ROWID;
CREATE INDEX sync_edge_by_run ON sync_edge (run);

-- What was removed for good: it does not come back from a remote.
CREATE TABLE gone (
    entity TEXT NOT NULL,
    uid    TEXT NOT NULL,
    hlc    INTEGER NOT NULL,
    device TEXT NOT NULL,
    CONSTRAINT gone_once PRIMARY KEY (entity, uid)
) STRICT, WITHOUT ROWID;

-- Tags as an add-wins set: a tag is there while a device's last addition of it is
-- later than what any removal had seen of that device (Shapiro et al., 2011).
CREATE TABLE tag_rev (
    entity  TEXT NOT NULL,
    uid     TEXT NOT NULL,
    tag     TEXT NOT NULL,
    device  TEXT NOT NULL,
    added   INTEGER NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT tag_rev_once PRIMARY KEY (entity, uid, tag, device)
) STRICT, WITHOUT ROWID;

-- The things that changed; each change of one gives it a new, higher number.
CREATE TABLE change (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    entity TEXT NOT NULL,
    uid    TEXT NOT NULL,
    CONSTRAINT change_once UNIQUE (entity, uid)
) STRICT;

ALTER TABLE epoch ADD COLUMN device TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN given_id TEXT;
ALTER TABLE project ADD COLUMN given_name TEXT;
ALTER TABLE event ADD COLUMN origin TEXT;
CREATE UNIQUE INDEX event_by_origin ON event (origin) WHERE origin IS NOT NULL;
UPDATE epoch SET device = (SELECT value FROM meta WHERE key = 'device');
"""

_RECORD = (
    "state, exit_code, error, epoch, started_us, ended_us, last_step, dropped_rows,"
    " coerced_values, damage, environment, summary, summary_blob"
)
"""Columns of a run that the register `record` stands for."""

_OWN = {
    "run": "NEW.uid", "project": "NEW.uid", "artifact": "NEW.uid",
    "version": "NEW.uid", "model": "NEW.uid", "model_version": "NEW.uid",
}  # fmt: skip
_PARTS = {
    "run_tag": ("run", "run_id"), "epoch": ("run", "run_id"),
    "stream": ("run", "run_id"), "metric_definition": ("run", "run_id"),
    "run_file": ("run", "run_id"), "run_blob": ("run", "run_id"),
    "alert": ("run", "run_id"), "watermark": ("run", "run_id"),
    "version_tag": ("version", "version_id"), "edge": ("version", "version_id"),
    "alias": ("artifact", "artifact_id"), "model_alias": ("model", "model_id"),
}  # fmt: skip
"""Tables whose rows belong to a thing: which, and the column that names it."""


def _noting(table: str, verb: str, entity: str, found: str) -> str:
    # Not INSERT OR REPLACE: the conflict clause of the statement that fires a trigger
    # takes the place of those inside.
    return (
        f"CREATE TRIGGER {table}_{verb.lower()}_noted AFTER {verb} ON {table} BEGIN"
        f" DELETE FROM change WHERE entity = '{entity}' AND uid = (SELECT {found});"
        f" INSERT INTO change (entity, uid) SELECT '{entity}', {found}; END;\n"
    )


_HERE = "WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'merging') BEGIN"
"""Not for what a merge writes: that has stamps of its own."""

_NOW = "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"
_TICK = (
    f"UPDATE meta SET value = CAST(max(CAST(value AS INTEGER) + 1, {_NOW}) AS TEXT)"
    " WHERE key = 'hlc';"
)
_STAMP = (
    "(SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'hlc'),"
    " (SELECT value FROM meta WHERE key = 'device')"
)


def _triggers() -> str:
    text = ""
    for table, uid in _OWN.items():
        for verb in ("INSERT", "UPDATE", "DELETE"):
            column = uid.replace("NEW", "OLD") if verb == "DELETE" else uid
            text += _noting(table, verb, table, column)
    for table, (entity, key) in _PARTS.items():
        for verb in ("INSERT", "UPDATE", "DELETE"):
            row = "OLD" if verb == "DELETE" else "NEW"
            found = f"uid FROM {entity} WHERE id = {row}.{key}"
            text += _noting(table, verb, entity, found)
    for name, event in (
        ("run_begun", "INSERT ON run"),
        ("run_recorded", f"UPDATE OF {_RECORD} ON run"),
    ):
        text += (
            f"CREATE TRIGGER {name} AFTER {event} {_HERE} {_TICK}"
            " DELETE FROM field_rev WHERE entity = 'run' AND uid = NEW.uid"
            " AND field = 'record';"
            f" INSERT INTO field_rev SELECT 'run', NEW.uid, 'record', {_STAMP}; END;\n"
        )
    for entity in ("run", "version"):
        text += (
            f"CREATE TRIGGER {entity}_tag_added AFTER INSERT ON {entity}_tag"
            f" {_HERE} {_TICK}"
            " INSERT INTO tag_rev (entity, uid, tag, added, device)"
            f" SELECT '{entity}', uid, NEW.tag, 0, meta.value FROM {entity}, meta"
            f" WHERE {entity}.id = NEW.{entity}_id AND meta.key = 'device'"
            f" AND NOT EXISTS (SELECT 1 FROM tag_rev WHERE entity = '{entity}'"
            f" AND tag_rev.uid = {entity}.uid AND tag = NEW.tag AND device = value);"
            " UPDATE tag_rev SET added ="
            " (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'hlc')"
            f" WHERE entity = '{entity}' AND tag = NEW.tag"
            f" AND uid = (SELECT uid FROM {entity} WHERE id = NEW.{entity}_id)"
            " AND device = (SELECT value FROM meta WHERE key = 'device'); END;\n"
            f"CREATE TRIGGER {entity}_tag_removed AFTER DELETE ON {entity}_tag"
            f" {_HERE} UPDATE tag_rev SET removed = added WHERE entity = '{entity}'"
            f" AND tag = OLD.tag AND uid ="
            f" (SELECT uid FROM {entity} WHERE id = OLD.{entity}_id); END;\n"
        )
    for entity in ("run", "version", "model_version"):
        text += (
            f"CREATE TRIGGER {entity}_gone AFTER DELETE ON {entity} {_HERE} {_TICK}"
            f" DELETE FROM gone WHERE entity = '{entity}' AND uid = OLD.uid;"
            f" INSERT INTO gone SELECT '{entity}', OLD.uid, {_STAMP}; END;\n"
        )
    return text


_KNOWN = """
INSERT INTO change (entity, uid) SELECT 'project', uid FROM project ORDER BY id;
INSERT INTO change (entity, uid) SELECT 'run', uid FROM run ORDER BY id;
INSERT INTO change (entity, uid) SELECT 'artifact', uid FROM artifact ORDER BY id;
INSERT INTO change (entity, uid) SELECT 'version', uid FROM version ORDER BY id;
INSERT INTO change (entity, uid) SELECT 'model', uid FROM model ORDER BY id;
INSERT INTO change (entity, uid) SELECT 'model_version', uid FROM model_version
    ORDER BY id;
INSERT OR IGNORE INTO field_rev SELECT 'run', uid, 'record', updated_us,
    (SELECT value FROM meta WHERE key = 'device') FROM run;
INSERT INTO tag_rev SELECT 'run', uid, tag, (SELECT value FROM meta WHERE key =
    'device'), updated_us, 0 FROM run_tag JOIN run ON run.id = run_tag.run_id;
INSERT INTO tag_rev SELECT 'version', uid, tag, (SELECT value FROM meta WHERE key =
    'device'), updated_us, 0 FROM version_tag JOIN version ON version.id = version_id;
"""
"""What an older Catalog holds already, all of it never synced."""

SYNC = TABLES + _triggers() + _KNOWN
