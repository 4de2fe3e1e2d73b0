"""Counts the instructions that a row costs, in whole runs on one thread, and compares them with a budget: `make instructions`.

There is a budget for records grouped by device and one for the same records in no order.
Seconds on a shared machine cannot show a change of a few percent; instructions hardly vary from run to run.
Valgrind counts them and gives every x86-64 machine with AVX2 the same processor, without AVX-512 and SHA instructions. A
count above the budget fails, and so does one below it: a budget that is too high would catch nothing. `--renew` writes what
was counted into the budget file, to be committed with the change that is the reason.
"""

import argparse
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

import shuffle

BUDGET = pathlib.Path(__file__).with_name("instructions.txt")
# About 25,000 rows, whose run is 50 times what starting costs.
PARTS = 2
TENANT = ["--seed", "1", "--devices", "200", "--parts", str(PARTS)]
# Hash seeds and the timing of threads change it by 0.2 %; the rest is for another compiler release.
TOLERANCE = 0.05


def write(tenant, scratch):
    """Writes the parts, grouped and shuffled; returns the folder of each, and their rows."""
    written = subprocess.run([tenant, *TENANT, "--out", f"{scratch}/grouped"], check=True, capture_output=True, text=True)
    shuffle.shuffle(f"{scratch}/grouped", f"{scratch}/shuffled", PARTS)
    rows = int(re.match(r"records (\d+)", written.stdout)[1])
    return {order: f"{scratch}/{order}" for order in ("grouped", "shuffled")}, rows


def count(program, parts, scratch):
    """Returns the instructions of a run."""
    counter = ["valgrind", "-q", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={scratch}/counted"]
    ingest = [program, "ingest", "-q", "--threads", "1", "--from", parts, "--lake", f"{parts}-lake", "--work-dir", f"{scratch}/work"]
    ran = subprocess.run([*counter, *ingest], stderr=subprocess.PIPE, text=True)
    if ran.returncode != 0:
        sys.exit(f"failed with {ran.returncode}: {' '.join(ingest)}\n{ran.stderr}")
    return int(re.search(r"^summary: (\d+)", open(f"{scratch}/counted").read(), re.MULTILINE)[1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True, help="defender-lake")
    arguments.add_argument("--tenant", required=True, help="the program that writes the parts")
    arguments.add_argument("--renew", action="store_true", help="write the counts as the new budgets")
    given = arguments.parse_args()
    if platform.machine() != "x86_64":
        sys.exit(f"instructions: the budget is one of x86_64, this is {platform.machine()}")

    with tempfile.TemporaryDirectory() as scratch:
        folders, rows = write(given.tenant, scratch)
        counted = {order: round(count(given.program, parts, scratch) / rows) for order, parts in folders.items()}
    if given.renew:
        lines = [f"{order} {instructions}\n" for order, instructions in counted.items()]
        BUDGET.write_text("# Instructions a row; `make instructions INSTRUCTIONS_ARGS=--renew` rewrites this.\n" + "".join(lines))
    budgets = dict(line.split() for line in BUDGET.read_text().splitlines()[1:])
    missed = []
    for order, instructions in counted.items():
        budget = int(budgets[order])
        change = instructions / budget - 1
        print(f"instructions: {order}, {instructions} a row, budget {budget}, {change:+.1%} (tolerance {TOLERANCE:.0%})")
        if abs(change) > TOLERANCE:
            missed.append(f"a row of {order} parts costs {'more' if change > 0 else 'less'} than its budget")
    if missed:
        sys.exit(f"{'; '.join(missed)}: if that is intended, run `make instructions INSTRUCTIONS_ARGS=--renew` and commit {BUDGET.name}")


if __name__ == "__main__":
    main()
