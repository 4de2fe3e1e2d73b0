"""Writes the records of a folder of gzip parts again, in no order at all or in one large part: `make bench`.

Takes parts of one record a line, gives as many parts as asked for, below the same folder names (they say the export's time).
Records are scattered over the new parts by chance, and each part is then shuffled: any order is as likely as any other,
and one part at a time is in memory. One seed gives the same order. With `--in-order` the order stays, for the same records
in fewer parts. Never looks into a record.
"""

import argparse
import gzip
import multiprocessing
import os
import pathlib
import random
import shutil
import tempfile

# What zlib does by default, and so what most exports and this project's own tenant are written with.
LEVEL = 6
# How much one process writes at a time.
CHUNK = 1 << 20


def scatter(parts, num_buckets, dice, scratch):
    """Writes the records of all parts to one file a bucket: by chance, or without dice as they stand."""
    buckets = [open(f"{scratch}/{bucket}", "wb", buffering=CHUNK) for bucket in range(num_buckets)]
    for index, part in enumerate(parts):
        with gzip.open(part) as records:
            if dice is None:
                shutil.copyfileobj(records, buckets[index * num_buckets // len(parts)], CHUNK)
            else:
                chance = dice.random
                for record in records:
                    buckets[int(chance() * num_buckets)].write(record)
    for bucket in buckets:
        bucket.close()


def write(work):
    """Writes one part from its bucket, shuffled if there is a seed for it."""
    bucket, part, seed, level = work
    with open(bucket, "rb") as plain, open(part, "wb") as file, gzip.GzipFile("", "wb", level, file, mtime=0) as out:
        if seed is None:
            shutil.copyfileobj(plain, out, CHUNK)
        else:
            records = plain.readlines()
            random.Random(seed).shuffle(records)
            for first in range(0, len(records), 2000):
                out.write(b"".join(records[first:first + 2000]))
    os.remove(bucket)


def shuffle(parts, out, num_parts, seed=1, in_order=False, level=LEVEL):
    """Writes the records of all parts below a folder as so many parts below another one."""
    parts, out = pathlib.Path(parts), pathlib.Path(out)
    found = sorted(parts.rglob("*.gz"))
    if not found:
        raise SystemExit(f"no gzip parts below {parts}")
    folder = out / pathlib.Path(os.path.commonpath([part.parent for part in found])).relative_to(parts)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        scatter(found, num_parts, None if in_order else random.Random(seed), scratch)
        work = [
            (f"{scratch}/{part}", folder / f"part-{part:05}.json.gz", None if in_order else f"{seed} {part}", level)
            for part in range(num_parts)
        ]
        with multiprocessing.Pool() as pool:
            pool.map(write, work, chunksize=1)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("parts", help="folder of gzip parts")
    arguments.add_argument("--out", required=True, help="folder for the new parts, which does not exist yet")
    arguments.add_argument("--parts", dest="num_parts", type=int, default=16, help="number of new parts (default: 16)")
    arguments.add_argument("--seed", type=int, default=1, help="seed of the order (default: 1)")
    arguments.add_argument("--in-order", action="store_true", help="keep the order of the records")
    given = arguments.parse_args()
    shuffle(given.parts, given.out, given.num_parts, given.seed, given.in_order)


if __name__ == "__main__":
    main()
