"""An S3 bucket as a remote: Amazon's, MinIO's, Ceph's, through s3fs.

s3fs holds an object of 1 GiB twice to put or get it, and cuts keys at ``?versionId=``.
So its files are not used: each verb is the S3 call that it is, made by s3fs's client.
Large objects go by blocks, a few at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from wanllmdb._remotes.failures import code_of, translated
from wanllmdb._remotes.fsspec_remote import FsspecRemote, checked_key
from wanllmdb._remotes.port import (
    BLOCK,
    Listed,
    check_key,
    check_prefix,
    check_range,
    read_exactly,
    settle,
)
from wanllmdb.errors import MissingExtraError

PARALLEL = 4
"""Blocks of one object that are under way at once."""

MAX_PARTS = 10_000
"""Parts that S3 takes of one object; what is larger has larger blocks."""

MAX_DELETED = 1000
"""Keys that one request removes."""


class S3Remote(FsspecRemote):
    """Objects below a prefix of a bucket.

    Credentials are what botocore finds; a request is never anonymous.

    Args:
        url: ``s3://BUCKET/PREFIX``.
        endpoint_url: The server; None: the environment's, or Amazon's.
        profile: Name of a profile of the AWS configuration.
        path_style: Whether the bucket's name is in the path.
    """

    tested = True

    def __init__(
        self,
        url: str,
        *,
        endpoint_url: str | None = None,
        profile: str | None = None,
        path_style: bool = False,
    ) -> None:
        config: dict[str, Any] = {
            # A few quick ones; the patient loop is above, in `Retrying`.
            "retries": {"mode": "standard", "total_max_attempts": 3},
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 64,
            # Older servers know no other checksum; ours is the SHA-256 of the content.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        if path_style:
            config["s3"] = {"addressing_style": "path"}
        options: dict[str, Any] = {"anon": False, "config_kwargs": config}
        if endpoint_url is not None:
            options["endpoint_url"] = endpoint_url
        if profile is not None:
            options["profile"] = profile
        super().__init__(url, options)
        self._bucket, _, prefix = self._root.partition("/")
        self._prefix = prefix + "/" if prefix else ""

    def _open(self) -> Any:
        fs = super()._open()
        fs.retries = 1
        with translated(self.url, "open the remote"):
            client = fs.connect()
        refuse_old(client.meta.service_model)
        return fs

    def _call(self, method: str, **parameters: Any) -> Any:
        return self.fs.call_s3(method, Bucket=self._bucket, **parameters)

    def _start(self, work: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
        """Have fsspec's thread do some work, while this one goes on."""
        loop = self.fs.loop
        return asyncio.run_coroutine_threadsafe(work(*args, **named), loop)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def get(self, key: str, first: int = 0, size: int | None = None) -> bytes:
        """See `Remote.get`."""
        check_range(first, size)
        if size == 0:
            size = 1  # S3 has no range of no bytes; whether it is there is still asked
            return self.get(key, first, size)[:0]
        name = self._name(key)
        with translated(self.url, f"read {key!r}", key):
            data, _ = self._start(self._read, name, first, size).result()
        return bytes(data)

    async def _read(self, name: str, first: int, size: int | None) -> tuple[bytes, int]:
        """Some bytes of an object, and how many there are in all."""
        asked: dict[str, str] = {}
        if first or size is not None:
            last = "" if size is None else first + size - 1
            asked = {"Range": f"bytes={first}-{last}"}
        try:
            answer = await self.fs._call_s3(
                "get_object", Bucket=self._bucket, Key=name, **asked
            )
        except OSError as error:
            if code_of(error) in ("InvalidRange", "416"):  # all of it was before
                return b"", first
            raise
        async with answer["Body"] as body:
            data = await body.read()
        told = answer["ContentLength"]
        if len(data) != told:
            raise EOFError(f"it ends {told - len(data)} bytes too soon")
        total = answer.get("ContentRange", "").rpartition("/")[2]
        return data, int(total) if total.isdecimal() else first + len(data)

    def download(
        self, key: str, sink: BinaryIO, first: int = 0, size: int | None = None
    ) -> int:
        """See `Remote.download`; some blocks are read ahead."""
        check_range(first, size)
        name = self._name(key)
        ask = BLOCK if size is None else min(BLOCK, size)
        with translated(self.url, f"read {key!r}", key):
            if not ask:
                self.get(key, first, 0)
                return 0
            data, total = self._start(self._read, name, first, ask).result()
        sink.write(data)
        done = len(data)
        end = total if size is None else min(total, first + size)

        def read(start: int) -> Future[Any]:
            want = min(BLOCK, end - start)
            return self._start(self._read, name, start, want)

        starts = range(first + done, end, BLOCK)
        with _Ahead(read, starts) as ahead:
            for start in starts:
                with translated(self.url, f"read {key!r}"):
                    ahead.fill()
                    data, _ = ahead.take()
                    if len(data) != min(BLOCK, end - start):
                        raise EOFError(
                            f"it ends {end - start - len(data)} bytes too soon"
                        )
                sink.write(data)
                done += len(data)
        return done

    def put(self, key: str, data: bytes) -> None:
        """See `Remote.put`."""
        name = self._name(key)
        with translated(self.url, f"write {key!r}"):
            self._call("put_object", Key=name, Body=data)

    def create(self, key: str, data: bytes) -> bool:
        """See `Remote.create`; it is what s3fs does for ``mode="create"``."""
        name = self._name(key)

        def attempt() -> None:
            with translated(self.url, f"create {key!r}"):
                try:
                    self._call("put_object", Key=name, Body=data, IfNoneMatch="*")
                except OSError as error:
                    if code_of(error) in ("PreconditionFailed", "412"):
                        raise FileExistsError(key) from error
                    raise

        return settle(self, key, data, attempt)

    def upload(self, key: str, source: BinaryIO, size: int) -> None:
        """See `Remote.upload`; one block at most by one request, more by its parts."""
        if size <= BLOCK:
            self.put(key, read_exactly(source, size))
            return
        name = self._name(key)
        doing = f"write {key!r}"
        with translated(self.url, doing):
            opened = self._call("create_multipart_upload", Key=name)["UploadId"]
        try:
            parts = self._upload_parts(name, opened, source, size, doing)
            with translated(self.url, doing):
                self._call(
                    "complete_multipart_upload", Key=name, UploadId=opened,
                    MultipartUpload={"Parts": parts},
                )  # fmt: skip
        except BaseException:
            self._abort(name, opened)
            raise

    def _upload_parts(
        self, name: str, opened: str, source: BinaryIO, size: int, doing: str
    ) -> list[dict[str, Any]]:
        """Send all parts, a few at a time; what the completion must name."""
        block = max(BLOCK, -(-size // MAX_PARTS))

        def send(first: int) -> Future[Any]:
            data = read_exactly(source, min(block, size - first))
            with translated(self.url, doing):
                return self._start(
                    self.fs._call_s3, "upload_part", Bucket=self._bucket, Key=name,
                    UploadId=opened, PartNumber=first // block + 1, Body=data,
                )  # fmt: skip

        parts = []
        starts = range(0, size, block)
        with _Ahead(send, starts) as ahead:
            for number, _ in enumerate(starts, 1):
                ahead.fill()
                with translated(self.url, doing):
                    etag = ahead.take()["ETag"]
                parts.append({"PartNumber": number, "ETag": etag})
        return parts

    def _abort(self, name: str, opened: str) -> None:
        try:
            self._call("abort_multipart_upload", Key=name, UploadId=opened)
        except Exception:  # noqa: BLE001  what failed before is what is raised
            pass  # `abort_stale` finds it

    def iter_keys(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """See `Remote.iter_keys`; markers of directories are no objects of ours."""
        asked: dict[str, Any] = {"Prefix": self._prefix + check_prefix(prefix)}
        if after:
            asked["StartAfter"] = self._prefix + after
        while True:
            with translated(self.url, f"list {prefix!r}"):
                page = self._call("list_objects_v2", **asked)
            for told in page.get("Contents", ()):
                key = told["Key"].removeprefix(self._prefix)
                if key > after and not told["Key"].endswith("/"):
                    when = int(told["LastModified"].timestamp() * 1e6)
                    yield Listed(checked_key(self, key), told["Size"], when)
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, keys: Sequence[str]) -> None:
        """See `Remote.delete`."""
        names = [self._name(key) for key in keys]
        for first in range(0, len(names), MAX_DELETED):
            some = [{"Key": name} for name in names[first : first + MAX_DELETED]]
            with translated(self.url, f"delete {len(some)} objects"):
                answer = self._call(
                    "delete_objects", Delete={"Objects": some, "Quiet": True}
                )
                for failed in answer.get("Errors", ()):
                    if failed.get("Code") != "NoSuchKey":
                        raise _Answer(failed)

    def abort_stale(self, older_than_s: float) -> int:
        """See `Remote.abort_stale`."""
        limit = datetime.now(UTC) - timedelta(seconds=older_than_s)
        done = 0
        asked: dict[str, Any] = {"Prefix": self._prefix}
        while True:
            with translated(self.url, "list open uploads"):
                page = self._call("list_multipart_uploads", **asked)
            for told in page.get("Uploads", ()):
                if told["Initiated"] < limit:
                    with translated(self.url, "abort an upload"):
                        self._call(
                            "abort_multipart_upload", Key=told["Key"],
                            UploadId=told["UploadId"],
                        )  # fmt: skip
                    done += 1
            if not page.get("IsTruncated"):
                return done
            asked["KeyMarker"] = page["NextKeyMarker"]
            asked["UploadIdMarker"] = page["NextUploadIdMarker"]

    def close(self) -> None:
        """See `Remote.close`."""
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close_session(opened[1].loop, opened[1]._s3creator)


def refuse_old(service: Any) -> None:
    """Refuse a botocore that has no exclusive create: s3fs would leave it out.

    Args:
        service: Botocore's model of S3.

    Raises:
        MissingExtraError: it is too old.
    """
    if "IfNoneMatch" not in service.operation_model("PutObject").input_shape.members:
        raise MissingExtraError(
            "The installed botocore is too old for exclusive create.",
            hint="Install a newer one with: pip install -U 'wanllmdb[s3]'",
            module="botocore", extra="s3",
        )  # fmt: skip


class _Answer(Exception):  # noqa: N818
    """An error within an answer, in the form that clients raise one in."""

    def __init__(self, failed: dict[str, Any]) -> None:
        super().__init__(failed.get("Message", ""))
        self.response = {"Error": failed}


class _Ahead:
    """Results in order, of which some are under way before they are asked for.

    Args:
        start: Begins the work of one item.
        items: All of them.
    """

    def __init__(
        self, start: Callable[[int], Future[Any]], items: Sequence[int]
    ) -> None:
        self._start = start
        self._items = iter(items)
        self._under_way: deque[Future[Any]] = deque()

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._under_way:
            future.cancel()

    def fill(self) -> None:
        """Have as many under way as may be; what `start` raises passes."""
        while len(self._under_way) < PARALLEL:
            item = next(self._items, None)
            if item is None:
                return
            self._under_way.append(self._start(item))

    def take(self) -> Any:
        """The next result, or what its work raised."""
        return self._under_way.popleft().result()
