"""The Catalog's schema, as readable SQL. Invariants are constraints, not code.

Times (``*_us``) are UTC microseconds since 1970. JSON columns hold the encoding
of :mod:`wanllmdb._json`: plain JSON, where only non-finite floats are tagged.
"""

from __future__ import annotations

APPLICATION_ID = 0x57414E44
"""``WAND`` in the file header: `file` and we tell a Catalog from any other file."""

SCHEMA_VERSION = 4
"""``user_version`` of a Catalog written by this library."""

JSON_LIMIT = 1 << 20
"""Bytes of config or summary JSON kept in the row; beyond it, a blob holds them."""

RUN_KEY_LIMIT = 256
"""Keys of a run that get their own `run_key` and `run_value` rows."""

METADATA_LIMIT = 100_000
"""Bytes of a version's metadata, as JSON."""

STATES = ("running", "finished", "failed", "killed", "crashed")

SCHEMA = """
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE project (
    id         INTEGER PRIMARY KEY,
    uid        TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    deleted_us INTEGER,
    CONSTRAINT project_uid_unique UNIQUE (uid),
    CONSTRAINT project_name_unique UNIQUE (name)
) STRICT;

-- One row per recorded execution. `run_id` is the user's id, `uid` ours.
CREATE TABLE run (
    id           INTEGER PRIMARY KEY,
    uid          TEXT NOT NULL,
    project_id   INTEGER NOT NULL REFERENCES project (id) ON DELETE RESTRICT,
    run_id       TEXT NOT NULL,
    name         TEXT NOT NULL,
    notes        TEXT,
    run_group    TEXT,
    job_type     TEXT,
    state        TEXT NOT NULL DEFAULT 'running',
    exit_code    INTEGER,
    error        TEXT,
    epoch        INTEGER NOT NULL DEFAULT 1,
    last_step    INTEGER,
    created_us   INTEGER NOT NULL,
    started_us   INTEGER NOT NULL,
    ended_us     INTEGER,
    updated_us   INTEGER NOT NULL,
    deleted_us   INTEGER,
    host         TEXT NOT NULL,
    pid          INTEGER NOT NULL,
    identity     TEXT NOT NULL DEFAULT '',
    dropped_rows INTEGER NOT NULL DEFAULT 0,
    coerced_values INTEGER NOT NULL DEFAULT 0,
    damage       TEXT,
    config       TEXT NOT NULL DEFAULT '{}',
    config_blob  TEXT,
    summary      TEXT NOT NULL DEFAULT '{}',
    summary_blob TEXT,
    environment  TEXT NOT NULL DEFAULT '{}',
    parent_id    INTEGER REFERENCES run (id) ON DELETE RESTRICT,
    parent_epoch INTEGER,
    parent_step  INTEGER,
    parent_marks TEXT,
    wide         INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT run_uid_unique UNIQUE (uid),
    CONSTRAINT run_id_unique_in_project UNIQUE (project_id, run_id),
    CONSTRAINT run_state_known
        CHECK (state IN ('running', 'finished', 'failed', 'killed', 'crashed')),
    CONSTRAINT run_config_bounded
        CHECK (length(config) <= 1048576 AND json_valid(config)),
    CONSTRAINT run_summary_bounded
        CHECK (length(summary) <= 1048576 AND json_valid(summary)),
    CONSTRAINT run_environment_valid CHECK (json_valid(environment)),
    CONSTRAINT run_fork_complete CHECK (
        (parent_id IS NULL) = (parent_step IS NULL)
        AND (parent_id IS NULL) = (parent_epoch IS NULL)
        AND (parent_id IS NULL) = (parent_marks IS NULL))
) STRICT;
CREATE INDEX run_by_state ON run (project_id, state, started_us);
CREATE INDEX run_by_start ON run (started_us, id);
CREATE INDEX run_by_name ON run (name);
CREATE INDEX run_by_public_id ON run (run_id);
CREATE INDEX run_by_parent ON run (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX run_in_trash ON run (deleted_us) WHERE deleted_us IS NOT NULL;

CREATE TABLE run_tag (
    run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    tag    TEXT NOT NULL,
    CONSTRAINT run_tag_once PRIMARY KEY (run_id, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_by_tag ON run_tag (tag, run_id);

-- One row per attempt. `keep_step`: rows of earlier epochs above it are
-- superseded (NULL: none are; -9223372036854775808: all are). `job`: the torchrun job
-- whose ranks share the epoch.
CREATE TABLE epoch (
    run_id      INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    epoch       INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    keep_step   INTEGER,
    first_step  INTEGER NOT NULL,
    started_us  INTEGER NOT NULL,
    ended_us    INTEGER,
    host        TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    reverted_us INTEGER,
    job         TEXT,
    CONSTRAINT epoch_once PRIMARY KEY (run_id, epoch),
    CONSTRAINT epoch_kind_known
        CHECK (kind IN ('init', 'resume', 'rewind', 'overwrite', 'fork'))
) STRICT, WITHOUT ROWID;

-- Streams that init opened. (fence_seq, fence_bytes): how far the log was folded
-- when its run was last recovered; a file that grew past it is alive after all.
CREATE TABLE stream (
    token       TEXT PRIMARY KEY,
    run_id      INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    epoch       INTEGER NOT NULL,
    writer      TEXT NOT NULL,
    creator     INTEGER NOT NULL,
    opened_us   INTEGER NOT NULL,
    closed_us   INTEGER,
    state       TEXT,
    exit_code   INTEGER,
    error       TEXT,
    fence_seq   INTEGER,
    fence_bytes INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX stream_by_run ON stream (run_id);

-- What a run's numbers came to, for its first 256 keys and every defined metric, in
-- the order of `position`. `exact`: JSON of [last, min, max] where a column cannot
-- hold them (bools, NaN, lists, ints beyond 64 bits).
CREATE TABLE run_key (
    run_id    INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    key       TEXT NOT NULL,
    count     INTEGER NOT NULL,
    nans      INTEGER NOT NULL,
    last      ANY,
    last_step INTEGER,
    min       ANY,
    max       ANY,
    mean      REAL,
    position  INTEGER NOT NULL,
    exact     TEXT,
    CONSTRAINT run_key_once PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_by_key_last ON run_key (key, last);

-- The same for the keys beyond, packed: zlib of a JSON list of such rows.
CREATE TABLE run_keys_packed (
    run_id INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    rows   BLOB NOT NULL
) STRICT;

-- Scalars of config (scope 0) and summary (scope 1), flattened with dots, so that
-- filters and sorts are index scans. run.wide = 1: more than 256 of a scope exist
-- and the rest is looked up in the JSON.
CREATE TABLE run_value (
    run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    scope  INTEGER NOT NULL,
    key    TEXT NOT NULL,
    value  ANY,
    CONSTRAINT run_value_once PRIMARY KEY (run_id, scope, key),
    CONSTRAINT run_value_scope_known CHECK (scope IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX run_by_value ON run_value (scope, key, value, run_id);

-- Of an epoch, because those of attempts that were begun anew hold no more.
CREATE TABLE metric_definition (
    run_id   INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    epoch    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    glob     TEXT NOT NULL,
    options  TEXT NOT NULL,
    CONSTRAINT metric_definition_once PRIMARY KEY (run_id, epoch, glob),
    CONSTRAINT metric_definition_valid CHECK (json_valid(options))
) STRICT, WITHOUT ROWID;

-- Files of a run: bytes are in blobs/, named by digest.
CREATE TABLE run_file (
    run_id   INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    path     TEXT NOT NULL,
    digest   TEXT NOT NULL,
    size     INTEGER NOT NULL,
    policy   TEXT NOT NULL,
    source   TEXT,
    mtime_ns INTEGER NOT NULL,
    saved_us INTEGER NOT NULL,
    CONSTRAINT run_file_once PRIMARY KEY (run_id, path),
    CONSTRAINT run_file_policy_known CHECK (policy IN ('live', 'end', 'now'))
) STRICT, WITHOUT ROWID;
CREATE INDEX run_file_by_digest ON run_file (digest);

-- Blobs that a run's log, config or summary refers to.
CREATE TABLE run_blob (
    run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    CONSTRAINT run_blob_once PRIMARY KEY (run_id, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE alert (
    id        INTEGER PRIMARY KEY,
    run_id    INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    title     TEXT NOT NULL,
    text      TEXT NOT NULL,
    level     TEXT NOT NULL,
    raised_us INTEGER NOT NULL,
    step      INTEGER,
    CONSTRAINT alert_level_known CHECK (level IN ('INFO', 'WARN', 'ERROR'))
) STRICT;
CREATE INDEX alert_by_run ON alert (run_id, raised_us);

-- Who changed what, when, from and to: written in the change's own transaction.
CREATE TABLE event (
    id      INTEGER PRIMARY KEY,
    at_us   INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    entity  TEXT NOT NULL,
    uid     TEXT NOT NULL,
    who     TEXT NOT NULL,
    host    TEXT NOT NULL,
    op_id   TEXT,
    before  TEXT,
    after   TEXT,
    reason  TEXT
) STRICT;
CREATE INDEX event_by_entity ON event (entity, uid, id);
CREATE INDEX event_by_time ON event (at_us);

-- The hybrid logical clock of each field that syncs (DESIGN section 10).
CREATE TABLE field_rev (
    entity TEXT NOT NULL,
    uid    TEXT NOT NULL,
    field  TEXT NOT NULL,
    hlc    INTEGER NOT NULL,
    device TEXT NOT NULL,
    CONSTRAINT field_rev_once PRIMARY KEY (entity, uid, field)
) STRICT, WITHOUT ROWID;
"""

# Sealed metrics and logs (DESIGN section 7); what version 2 added to version 1.
SEALED = """
-- One sealed Parquet file, parts/<project uid>/<name>. `layout`: what its columns are.
-- `any_key`: it holds more keys than part_key lists. A quarantined one is damaged, and
-- lies in trash/.
CREATE TABLE part (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id     INTEGER NOT NULL REFERENCES project (id) ON DELETE RESTRICT,
    name           TEXT NOT NULL,
    layout         TEXT NOT NULL,
    merged         INTEGER NOT NULL,
    rows           INTEGER NOT NULL,
    bytes          INTEGER NOT NULL,
    digest         TEXT NOT NULL,
    any_key        INTEGER NOT NULL,
    created_us     INTEGER NOT NULL,
    quarantined_us INTEGER,
    CONSTRAINT part_name_unique UNIQUE (name),
    CONSTRAINT part_layout_known
        CHECK (layout IN ('wide', 'tall', 'objects', 'system', 'console'))
) STRICT;
CREATE INDEX part_by_project ON part (project_id, merged, bytes);

-- The rows of a part that are one run's: `rows` of them from `row_first` on. `plain`:
-- none of them replaces another one of this part, or of the run's parts before it.
CREATE TABLE part_run (
    run_id    INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    part_id   INTEGER NOT NULL REFERENCES part (id) ON DELETE CASCADE,
    row_first INTEGER NOT NULL,
    rows      INTEGER NOT NULL,
    step_min  INTEGER,
    step_max  INTEGER,
    epoch_min INTEGER NOT NULL,
    epoch_max INTEGER NOT NULL,
    plain     INTEGER NOT NULL,
    CONSTRAINT part_run_once PRIMARY KEY (run_id, part_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_run_by_part ON part_run (part_id);
CREATE INDEX part_run_not_plain ON part_run (run_id) WHERE plain = 0;

-- Which keys a part holds, and as which column. `codes`: the types among them, letters
-- of d q b s (a column each), o (JSON) and n (None).
CREATE TABLE part_key (
    part_id INTEGER NOT NULL REFERENCES part (id) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    name    TEXT NOT NULL,
    codes   TEXT NOT NULL,
    CONSTRAINT part_key_once PRIMARY KEY (part_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_by_key ON part_key (key, part_id);

-- The logs of small runs that ended: segments as they were, byte for byte. `plain`: the
-- run's only rows, of one shape, one after the other, and their steps rise.
CREATE TABLE inline_log (
    run_id    INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    token     TEXT NOT NULL,
    kind      TEXT NOT NULL,
    seq       INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    rows      INTEGER NOT NULL,
    crc       INTEGER NOT NULL,
    plain     INTEGER NOT NULL,
    data      BLOB NOT NULL,
    CONSTRAINT inline_log_once PRIMARY KEY (run_id, token, kind, seq)
) STRICT;
CREATE INDEX inline_by_kind ON inline_log (kind, run_id, plain);

-- How far a stream is sealed: up to byte `bytes` of segment `seq`, `rows` rows in all.
CREATE TABLE watermark (
    run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    token  TEXT NOT NULL,
    kind   TEXT NOT NULL,
    epoch  INTEGER NOT NULL,
    writer TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    bytes  INTEGER NOT NULL,
    rows   INTEGER NOT NULL,
    CONSTRAINT watermark_once PRIMARY KEY (run_id, token, kind)
) STRICT, WITHOUT ROWID;

-- Files below the Store that nothing names any more, to be removed when their time has
-- come. `kind`: a part, or the directory of a run's log.
CREATE TABLE retired (
    path   TEXT PRIMARY KEY,
    kind   TEXT NOT NULL,
    due_us INTEGER NOT NULL,
    CONSTRAINT retired_kind_known CHECK (kind IN ('part', 'log'))
) STRICT, WITHOUT ROWID;
CREATE INDEX retired_by_time ON retired (due_us);

-- Every list asks first for runs whose writers may have died.
CREATE INDEX run_running ON run (started_us) WHERE state = 'running';
"""

# Artifacts and models (DESIGN section 9); what version 3 added to version 2.
ARTIFACTS = """
-- A named, typed series of versions. `last_number`: the highest number ever given, so
-- that none is given twice; `uid` comes from project and name, so that laptops agree.
CREATE TABLE artifact (
    id            INTEGER PRIMARY KEY,
    uid           TEXT NOT NULL,
    project_id    INTEGER NOT NULL REFERENCES project (id) ON DELETE RESTRICT,
    name          TEXT NOT NULL,
    type          TEXT NOT NULL,
    description   TEXT,
    first_version INTEGER NOT NULL DEFAULT 1,
    last_number   INTEGER,
    created_us    INTEGER NOT NULL,
    CONSTRAINT artifact_uid_unique UNIQUE (uid),
    CONSTRAINT artifact_name_unique_in_project UNIQUE (project_id, name)
) STRICT;
CREATE INDEX artifact_by_type ON artifact (project_id, type, name);

-- Immutable content, whose manifest is the blob `digest`. What may change is said of
-- it: description, metadata, tags, time to live, and whether it is in the trash.
CREATE TABLE version (
    id          INTEGER PRIMARY KEY,
    uid         TEXT NOT NULL,
    artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE RESTRICT,
    number      INTEGER NOT NULL,
    digest      TEXT NOT NULL,
    files       INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    description TEXT,
    metadata    TEXT NOT NULL DEFAULT '{}',
    run_id      INTEGER REFERENCES run (id) ON DELETE SET NULL,
    created_us  INTEGER NOT NULL,
    updated_us  INTEGER NOT NULL,
    ttl_us      INTEGER,
    deleted_us  INTEGER,
    CONSTRAINT version_uid_unique UNIQUE (uid),
    CONSTRAINT version_number_unique UNIQUE (artifact_id, number),
    CONSTRAINT version_of_artifact UNIQUE (artifact_id, id),
    CONSTRAINT version_metadata_bounded
        CHECK (length(CAST(metadata AS BLOB)) <= 100000 AND json_valid(metadata))
) STRICT;
CREATE INDEX version_by_digest ON version (artifact_id, digest);
CREATE INDEX version_alive ON version (artifact_id, number) WHERE deleted_us IS NULL;
CREATE INDEX version_in_trash ON version (deleted_us) WHERE deleted_us IS NOT NULL;
CREATE INDEX version_by_run ON version (run_id) WHERE run_id IS NOT NULL;

CREATE TABLE version_tag (
    version_id INTEGER NOT NULL REFERENCES version (id) ON DELETE CASCADE,
    tag        TEXT NOT NULL,
    CONSTRAINT version_tag_once PRIMARY KEY (version_id, tag)
) STRICT, WITHOUT ROWID;

-- A movable name of one version, unique in its artifact whatever the case.
CREATE TABLE alias (
    artifact_id INTEGER NOT NULL,
    alias_key   TEXT NOT NULL,
    alias       TEXT NOT NULL,
    version_id  INTEGER NOT NULL,
    protected   INTEGER NOT NULL DEFAULT 0,
    moved_us    INTEGER NOT NULL,
    CONSTRAINT alias_once PRIMARY KEY (artifact_id, alias_key),
    CONSTRAINT alias_of_version FOREIGN KEY (artifact_id, version_id)
        REFERENCES version (artifact_id, id) ON DELETE RESTRICT
) STRICT, WITHOUT ROWID;
CREATE INDEX alias_by_version ON alias (version_id);

-- Lineage: which run made a version (output), and which read it (input).
CREATE TABLE edge (
    version_id INTEGER NOT NULL REFERENCES version (id) ON DELETE CASCADE,
    run_id     INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    direction  TEXT NOT NULL,
    at_us      INTEGER NOT NULL,
    CONSTRAINT edge_once PRIMARY KEY (version_id, run_id, direction),
    CONSTRAINT edge_direction_known CHECK (direction IN ('input', 'output'))
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_by_run ON edge (run_id, direction);

-- A name of the registry; `single_holder`: staging and production have one version of
-- it each at most. A deleted one has no versions, but keeps its numbers and history.
CREATE TABLE model (
    id            INTEGER PRIMARY KEY,
    uid           TEXT NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT,
    single_holder INTEGER NOT NULL DEFAULT 0,
    last_number   INTEGER NOT NULL DEFAULT 0,
    created_us    INTEGER NOT NULL,
    deleted_us    INTEGER,
    CONSTRAINT model_uid_unique UNIQUE (uid),
    CONSTRAINT model_name_unique UNIQUE (name),
    CONSTRAINT model_holder UNIQUE (id, single_holder),
    CONSTRAINT model_single_holder_known CHECK (single_holder IN (0, 1))
) STRICT;

-- A model's version: a link to a version of an artifact, of any project.
CREATE TABLE model_version (
    id            INTEGER PRIMARY KEY,
    uid           TEXT NOT NULL,
    model_id      INTEGER NOT NULL,
    single_holder INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    version_id    INTEGER NOT NULL REFERENCES version (id) ON DELETE RESTRICT,
    stage         TEXT NOT NULL DEFAULT 'none',
    description   TEXT,
    metadata      TEXT NOT NULL DEFAULT '{}',
    tags          TEXT NOT NULL DEFAULT '[]',
    created_us    INTEGER NOT NULL,
    staged_us     INTEGER,
    approved_by   TEXT,
    approved_us   INTEGER,
    CONSTRAINT model_version_uid_unique UNIQUE (uid),
    CONSTRAINT model_version_number_unique UNIQUE (model_id, number),
    CONSTRAINT model_version_in_model UNIQUE (model_id, id),
    CONSTRAINT model_version_of_model FOREIGN KEY (model_id, single_holder)
        REFERENCES model (id, single_holder) ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT model_version_stage_known
        CHECK (stage IN ('none', 'staging', 'production', 'archived')),
    CONSTRAINT model_version_metadata_bounded
        CHECK (length(CAST(metadata AS BLOB)) <= 100000 AND json_valid(metadata)),
    CONSTRAINT model_version_tags_valid CHECK (json_valid(tags))
) STRICT;
CREATE UNIQUE INDEX model_stage_holder ON model_version (model_id, stage)
    WHERE single_holder = 1 AND stage IN ('staging', 'production');
CREATE INDEX model_version_by_stage ON model_version (model_id, stage, number);
CREATE INDEX model_version_by_version ON model_version (version_id);

-- A name of one version of a model. `fixed`: the one that it was registered under, as
-- 1.2.0 is; it never moves.
CREATE TABLE model_alias (
    model_id         INTEGER NOT NULL,
    alias_key        TEXT NOT NULL,
    alias            TEXT NOT NULL,
    model_version_id INTEGER NOT NULL,
    fixed            INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT model_alias_once PRIMARY KEY (model_id, alias_key),
    CONSTRAINT model_alias_of_version FOREIGN KEY (model_id, model_version_id)
        REFERENCES model_version (model_id, id) ON DELETE CASCADE,
    CONSTRAINT model_alias_fixed_known CHECK (fixed IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX model_alias_fixed ON model_alias (model_version_id) WHERE fixed = 1;
CREATE INDEX model_alias_by_version ON model_alias (model_version_id);

-- What files' bytes were when they were last hashed; true as long as all else is. The
-- files of a directory, or one file: `names` with a / between, `stats` four int64 each
-- (size, mtime_ns, ctime_ns, inode), `digests` 32 bytes each.
CREATE TABLE stat_cache (
    place   TEXT PRIMARY KEY,
    names   TEXT NOT NULL,
    stats   BLOB NOT NULL,
    digests BLOB NOT NULL
) STRICT;
"""
