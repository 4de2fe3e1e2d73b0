"""Measures the peak memory of runs and compares it with --memory: `make bench-memory`.

The peak is of resident memory, as the kernel counts it (wait4). A run may take its budget, the allowance for the program
itself, and eight times the largest record if that is larger than 1 MiB. It also checks row groups: 122,880 rows at most, and
50,000 or more on average in each file that has several. The time a million rows is there to see that it does not grow with
the tenant; runs that compare it are the median of three.
"""

import argparse
import functools
import gzip
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
import typing

import shuffle

MIB = 1 << 20
ALLOWANCE = 96 * MIB
GENERATED_TIME = "2021-01-11T11:01:00Z"
LARGE_RECORD = 15 * MIB


def ordinary(scratch, tenant, times=1):
    """The ordinary tenant, 1.3 million rows, or so many times as many devices."""
    subprocess.run([tenant, "--devices", str(11200 * times), "--parts", str(16 * times), "--out", scratch], check=True,
                   stdout=subprocess.DEVNULL)


def ten_times(scratch, tenant):
    """The ordinary tenant with ten times as many devices."""
    ordinary(scratch, tenant, times=10)


def other(scratch, tenant):
    """A tenant of another shape, 1.3 million rows."""
    program = pathlib.Path(__file__).with_name("other_tenant.py")
    subprocess.run([sys.executable, program, "--out", scratch], check=True, stdout=subprocess.DEVNULL)


def platforms(num_platforms, num_rows):
    """Rows of many platforms, a device's rows together."""
    def write(scratch, tenant):
        dice = random.Random(1)
        for part in range(8):
            with gzip.open(scratch / f"part-{part}.json.gz", "wt", compresslevel=1) as out:
                for device in range(num_rows // 8 // 40):
                    name, platform = f"{part:x}{device:039x}", dice.randrange(num_platforms)
                    for product in range(40):
                        out.write(json.dumps({
                            "DeviceId": name, "DeviceName": f"host-{name[-6:]}.example.com", "OSPlatform": f"Platform{platform}",
                            "SoftwareVendor": f"vendor{product % 7}", "SoftwareName": f"product{dice.randrange(3000)}",
                            "SoftwareVersion": f"{dice.randrange(99)}.{dice.randrange(9999)}", "NumberOfWeaknesses": product,
                            "DiskPaths": [f"c:\\program files\\p{product}\\{dice.randrange(10**9)}.exe"],
                        }) + "\n")
    return write


def large_records(scratch, tenant):
    """16 parts of 12 records of 15 MiB."""
    dice = random.Random(1)
    for part in range(16):
        with gzip.open(scratch / f"part-{part:02}.json.gz", "wb", compresslevel=1) as out:
            for record in range(12):
                paths = json.dumps([f"c:\\p{dice.randrange(10**6)}\\{number:08}.exe" for number in range(LARGE_RECORD // 60)])
                head = f'{{"DeviceId":"{part}-{record}","OSPlatform":"Windows10","DiskPaths":{paths},"DeviceName":"'
                out.write((head + "x" * (LARGE_RECORD - len(head) - 2) + '"}\n').encode())


def rejects(scratch, tenant):
    """Four parts in which every second record is rejected, a page of the API each, records of 100 kB."""
    for part in range(4):
        with gzip.open(scratch / f"page-{part}.json.gz", "wt", compresslevel=1) as out:
            out.write('{"@odata.context":"x","value":[')
            for record in range(1000):
                identity = f'"DeviceId":"{part}-{record}"' if record % 2 else '"DeviceId":null'
                lists = ",".join(f'"{number}"' for number in range(record, record + 12_000))
                out.write(("," if record else "") + f'{{{identity},"NumberOfWeaknesses":true,"DiskPaths":[{lists}]}}')
            out.write("]}")


class Run(typing.NamedTuple):
    name: str
    # Writes the parts; and whether their records are then put in no order at all.
    write: typing.Callable
    shuffled: bool
    options: list
    budget: int
    largest_record: int = 0
    rounds: int = 1


DEFAULT = 1024 * MIB
SMALL = 64 * MIB
RUNS = [
    Run("ordinary tenant", ordinary, False, [], DEFAULT, rounds=3),
    Run("ordinary tenant, shuffled", ordinary, True, [], DEFAULT, rounds=3),
    Run("ten times as many devices", ten_times, False, [], DEFAULT, rounds=3),
    Run("ten times as many devices, shuffled", ten_times, True, [], DEFAULT, rounds=3),
    Run("other tenant", other, False, [], DEFAULT, rounds=3),
    Run("other tenant, shuffled", other, True, [], DEFAULT, rounds=3),
    Run("ordinary tenant, 8 threads", ordinary, False, ["--threads", "8"], SMALL),
    Run("ordinary tenant, shuffled, 8 threads", ordinary, True, ["--threads", "8"], SMALL),
    Run("other tenant, shuffled, 8 threads", other, True, ["--threads", "8"], SMALL),
    Run("1,000 platforms, 8 threads", platforms(1000, 1_000_000), False, ["--threads", "8"], SMALL),
    Run("16 parts of 12 records of 15 MiB, 16 threads", large_records, False, ["--threads", "16"], DEFAULT, LARGE_RECORD),
    Run("the same", large_records, False, ["--threads", "16"], SMALL, LARGE_RECORD),
    Run("300 platforms, 8 threads", platforms(300, 1_000_000), False, ["--threads", "8"], 128 * MIB),
    Run("pages, half of the records rejected", rejects, False, ["--threads", "4", "--max-rejects", "100%"], SMALL),
]


def measure(command):
    """Runs a command; returns seconds and its peak of resident memory in bytes."""
    before = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    log = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"failed with {process.returncode}: {' '.join(map(str, command))}\n{log.decode()}")
    return seconds, usage.ru_maxrss * 1024


def row_groups_of(lake):
    """Returns rows, row groups and files of a lake, and the least mean of a file that has several row groups."""
    manifest = json.loads(next(lake.glob("_defender/*/snapshots/*/manifest.json")).read_text())
    files = manifest["files"]
    means = [file["rows"] / file["row_groups"] for file in files if file["row_groups"] > 1]
    return manifest["totals"]["rows"], sum(file["row_groups"] for file in files), len(files), min(means, default=None)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True, help="defender-lake")
    arguments.add_argument("--tenant", required=True, help="the program that writes the ordinary tenant")
    arguments.add_argument("--only", help="only runs whose name has this in it")
    given = arguments.parse_args()

    print("| run | --memory | + allowance and record | peak | | time a million rows | rows | row groups | files | least mean rows |")
    print("|---|---:|---:|---:|---|---:|---:|---:|---:|---:|")
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)

        @functools.cache
        def written(write, shuffled):
            parts = pathlib.Path(tempfile.mkdtemp(dir=scratch))
            if shuffled:
                grouped = written(write, False)
                # Any record may be in any part, at every size. The level is a fast one.
                shuffle.shuffle(grouped, parts, len(list(grouped.rglob("*.gz"))), level=1)
            else:
                write(parts, given.tenant)
            return parts

        for run in RUNS:
            if given.only and given.only not in run.name:
                continue
            lake, measured = scratch / "lake", []
            for _ in range(run.rounds):
                subprocess.run(["rm", "-rf", lake], check=True)
                measured.append(measure([
                    given.program, "ingest", "-q", *run.options, "--memory", str(run.budget),
                    "--from", written(run.write, run.shuffled), "--lake", lake, "--work-dir", scratch / "work",
                    "--generated-time", GENERATED_TIME,
                ]))
            seconds, peak = statistics.median(each[0] for each in measured), max(each[1] for each in measured)
            rows, row_groups, files, mean = row_groups_of(lake)
            limit = run.budget + ALLOWANCE + 8 * run.largest_record
            passed = peak <= limit and (mean is None or mean >= 50_000)
            failed |= not passed
            shown = "" if mean is None else f"{mean:,.0f}"
            pace = f"{1e6 * seconds / rows:.2f} s" if rows >= 1e6 else ""
            print(f"| {run.name} | {run.budget // MIB} MiB | {limit // MIB} MiB | {peak / MIB:.0f} MiB | {'ok' if passed else 'FAILED'} "
                  f"| {pace} | {rows:,} | {row_groups:,} | {files:,} | {shown} |", flush=True)
    if failed:
        sys.exit("a run took more than it may, or made row groups that are too small")


if __name__ == "__main__":
    main()
