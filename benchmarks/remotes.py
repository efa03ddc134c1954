"""A large object up to a remote and down again, beside the bare client.

``python benchmarks/remotes.py URL [ENDPOINT_URL]`` takes an S3 bucket that may be
written, with credentials in the environment; without a URL it takes a directory. It
needs 4 GB of disk. Wall seconds, and how much the memory of the process grew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from measuring import head, show

SIZE = 1 << 30
REPEATS = 3
RSS_BAR_MIB = 200
WALL_BAR = 1.2

OURS = """
from wanllmdb._remotes.address import Address, open_remote
remote = open_remote(Address(url, endpoint_url=endpoint))
remote.put("bench/warm", b"x")
remote.get("bench/warm")

def up():
    with open(source, "rb") as file:
        remote.upload("bench/large", file, size)

def down():
    with open(target, "wb") as file:
        assert remote.download("bench/large", file) == size
"""
BARE_S3 = """
import botocore.session
from botocore.config import Config
from concurrent.futures import ThreadPoolExecutor
quiet = Config(request_checksum_calculation="when_required",
               response_checksum_validation="when_required", max_pool_connections=16)
session = botocore.session.Session()
client = session.create_client("s3", endpoint_url=endpoint, config=quiet)
bucket, _, prefix = url.removeprefix("s3://").partition("/")
place = {"Bucket": bucket, "Key": f"{prefix}/bench/large".lstrip("/")}
block = 8 << 20
starts = range(0, size, block)

def up():
    opened = client.create_multipart_upload(**place)["UploadId"]
    def send(start):
        with open(source, "rb") as file:
            file.seek(start)
            number = start // block + 1
            tag = client.upload_part(**place, UploadId=opened, PartNumber=number,
                                     Body=file.read(block))["ETag"]
        return {"PartNumber": number, "ETag": tag}
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(send, starts))
    client.complete_multipart_upload(**place, UploadId=opened,
                                     MultipartUpload={"Parts": parts})

def down():
    fd = os.open(target, os.O_WRONLY | os.O_CREAT)
    def fetch(start):
        asked = f"bytes={start}-{min(start + block, size) - 1}"
        os.pwrite(fd, client.get_object(**place, Range=asked)["Body"].read(), start)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, starts))
    os.close(fd)
"""
BARE_FILES = """
place = url.removeprefix("file://") + "/bench-large"

def copy(a, b):
    with open(a, "rb") as source, open(b, "wb") as file:
        while block := source.read(8 << 20):
            file.write(block)
        file.flush()
        if b == place:
            os.fsync(file.fileno())

def up():
    copy(source, place)

def down():
    copy(place, target)
"""
TIMED = """
before = rss_mib()
for call in (up, down):
    wall = time.perf_counter()
    call()
    print(json.dumps([time.perf_counter() - wall]), flush=True)
top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([top - before]))
os._exit(0)
"""
START = """
import json, os, resource, sys, time
here, url, endpoint, source, target, size = sys.argv[1:]
endpoint, size = endpoint or None, int(size)
sys.path.insert(0, here)
from measuring import rss_mib
"""


def measured(codes: list[str], *arguments: str) -> list[list[float]]:
    """For each code: wall seconds up and down, MiB that memory grew by; the best."""
    runs: list[list[list[float]]] = [[] for _ in codes]
    here = os.path.dirname(os.path.abspath(__file__))
    for _ in range(REPEATS):
        for code, found in zip(codes, runs):
            os.sync()  # what was written before is nobody's time
            done = subprocess.run(
                [sys.executable, "-c", START + code + TIMED, here, *arguments],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            found.append([json.loads(line)[0] for line in done.stdout.splitlines()])
    return [[min(values) for values in zip(*found)] for found in runs]


def main() -> None:
    """Print the table."""
    head()
    with tempfile.TemporaryDirectory() as directory:
        given = sys.argv[1:]
        os.mkdir(f"{directory}/remote")
        url = given[0] if given else f"file://{directory}/remote"
        endpoint = given[1] if len(given) > 1 else ""
        source = f"{directory}/source"
        with open(source, "wb") as file:
            for _ in range(SIZE >> 20):
                file.write(os.urandom(1 << 20))
        bare = BARE_S3 if url.startswith("s3://") else BARE_FILES
        places = (url, endpoint, source, f"{directory}/target", str(SIZE))
        ours, raw = measured([OURS, bare], *places)
    for name, mine, its in zip(("up", "down"), ours, raw):
        show(f"1 GiB {name}", mine, "s", f"<= {WALL_BAR} x", raw=its)
    show("memory that grew", ours[2], "MiB", f"<= {RSS_BAR_MIB}", raw=raw[2])


if __name__ == "__main__":
    main()
