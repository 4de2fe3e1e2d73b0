"""Counts the instructions that a row costs, in whole runs on one thread, and compares them with a budget: `make instructions`.

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

BUDGET = pathlib.Path(__file__).with_name("instructions.txt")
# About 25,000 rows, whose run is 50 times what starting costs.
TENANT = ["--seed", "1", "--devices", "200", "--parts", "2"]
# Hash seeds and the timing of threads change it by 0.2 %; the rest is for another compiler release.
TOLERANCE = 0.05


def count(program, tenant):
    """Returns instructions a row."""
    with tempfile.TemporaryDirectory() as scratch:
        written = subprocess.run([tenant, *TENANT, "--out", f"{scratch}/parts"], check=True, capture_output=True, text=True)
        rows = int(re.match(r"records (\d+)", written.stdout)[1])
        counter = ["valgrind", "-q", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={scratch}/counted"]
        ingest = [program, "ingest", "-q", "--threads", "1", "--from", f"{scratch}/parts", "--lake", f"{scratch}/lake",
                  "--work-dir", f"{scratch}/work"]
        ran = subprocess.run([*counter, *ingest], stderr=subprocess.PIPE, text=True)
        if ran.returncode != 0:
            sys.exit(f"failed with {ran.returncode}: {' '.join(ingest)}\n{ran.stderr}")
        return round(int(re.search(r"^summary: (\d+)", open(f"{scratch}/counted").read(), re.MULTILINE)[1]) / rows)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True, help="defender-lake")
    arguments.add_argument("--tenant", required=True, help="the program that writes the parts")
    arguments.add_argument("--renew", action="store_true", help="write the count as the new budget")
    given = arguments.parse_args()
    if platform.machine() != "x86_64":
        sys.exit(f"instructions: the budget is one of x86_64, this is {platform.machine()}")

    counted = count(given.program, given.tenant)
    if given.renew:
        BUDGET.write_text(f"# Instructions a row; `make instructions INSTRUCTIONS_ARGS=--renew` rewrites this.\n{counted}\n")
    budget = int(BUDGET.read_text().splitlines()[-1])
    change = counted / budget - 1
    print(f"instructions: {counted} a row, budget {budget}, {change:+.1%} (tolerance {TOLERANCE:.0%})")
    if abs(change) > TOLERANCE:
        what = "a row costs more than its budget" if change > 0 else "a row costs less than its budget"
        sys.exit(f"{what}: if that is intended, run `make instructions INSTRUCTIONS_ARGS=--renew` and commit {BUDGET.name}")


if __name__ == "__main__":
    main()
