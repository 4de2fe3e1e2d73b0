"""Measures how fast each dataset is ingested, beside software inventory: `make bench`.

Writes each dataset's parts of the sample tenant, with about as many bytes of JSON for all, grouped by device and in no order.
The program takes them round after round, dataset by dataset, with default options. Prints decompressed bytes a second and
how many times those of software inventory in the same order that is.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile

import compare
import shuffle

PARTS = 8
# What a dataset may be at least, of software inventory in the same order.
TARGET = 0.7
# A few devices, to know how many bytes one takes.
FEW_DEVICES = 100


def json_bytes(tenant, dataset, devices, out):
    """Writes a dataset's parts; returns their bytes of JSON."""
    command = [tenant, "--dataset", dataset, "--devices", str(devices), "--parts", str(PARTS), "--out", out]
    written = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(re.search(r"json bytes (\d+)", written.stdout)[1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True, help="defender-lake")
    arguments.add_argument("--tenant", required=True, help="the program that writes the parts")
    arguments.add_argument("--megabytes", type=int, default=400, help="JSON of each dataset, about")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--out", help="file for the table")
    given = arguments.parse_args()
    listed = subprocess.run([given.program, "schema"], check=True, capture_output=True, text=True).stdout
    datasets = [name.replace("-", "_") for name in re.findall(r"^ *([a-z-]+) +\S+\.Read\.All ", listed, re.MULTILINE)]
    runs, sizes = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for dataset in datasets:
            few = json_bytes(given.tenant, dataset, FEW_DEVICES, f"{scratch}/few/{dataset}")
            devices = max(FEW_DEVICES, given.megabytes * 1_000_000 * FEW_DEVICES // few)
            sizes[dataset] = json_bytes(given.tenant, dataset, devices, f"{scratch}/grouped/{dataset}")
            shuffle.shuffle(f"{scratch}/grouped/{dataset}", f"{scratch}/shuffled/{dataset}", PARTS)
        for _ in range(given.rounds):
            for dataset in datasets:
                for order in ("grouped", "shuffled"):
                    parts, lake = f"{scratch}/{order}/{dataset}", f"{scratch}/lake"
                    ingest = [given.program, "ingest", "-q", "--dataset", dataset, "--from", parts, "--lake", lake]
                    seconds, memory = compare.run([*ingest, "--work-dir", f"{scratch}/work"])
                    runs.setdefault((dataset, order), []).append((seconds, memory, compare.size_mb(lake)))
                    subprocess.run(["rm", "-rf", lake], check=True)

    def speed(dataset, order):
        return sizes[dataset] / 1e6 / statistics.median(run[0] for run in runs[dataset, order])

    rows = {}
    for dataset in datasets:
        cells = [f"{sizes[dataset] / 1e6:.0f} MB"]
        for order in ("grouped", "shuffled"):
            times = speed(dataset, order) / speed(datasets[0], order)
            shown = f"{times:.2f}x" if round(times, 2) >= TARGET else f"**{times:.2f}x**"
            cells.append(f"{speed(dataset, order):.0f} MB/s, {shown}")
        cells.append(f"{max(run[1] for order in ('grouped', 'shuffled') for run in runs[dataset, order]):.0f} MB")
        rows[dataset] = cells
    lines = [f"{compare.machine()}, {given.rounds} rounds in turn, {os.cpu_count()} threads.",
             f"JSON a second, and how many times that of {datasets[0]} it is: at least {TARGET}x, in bold if it is less.", "",
             *compare.table(["JSON", "grouped", "shuffled", "peak memory"], rows)]
    compare.report(lines, given.out)


if __name__ == "__main__":
    main()
