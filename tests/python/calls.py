"""The calls of `defender_lake`, and its command line; the emulator of the service is in the environment."""

import ast
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def num_threads():
    return len(os.listdir("/proc/self/task"))


before = num_threads()
import defender_lake

assert num_threads() == before, "no thread is started at import"
assert not {"pyarrow", "pyspark", "pandas"} & set(sys.modules), "nothing large is imported"

TIME = "2021-01-11T11:01:00Z"
LAKE = Path("lake").absolute()
WORK = {"lake": LAKE, "work_dir": "work"}
LOCAL = {**WORK, "from_": [Path("parts")], "generated_time": TIME}


def main():
    ingests()
    several_datasets()
    errors()
    log()
    interrupt()
    fork()
    options_are_those_of_the_program()
    command_line()


def run(*args, **options):
    return subprocess.run([sys.executable, "-m", "defender_lake", *args], capture_output=True, text=True, **options)


def ingests():
    report = defender_lake.ingest(**LOCAL, dry_run=True, keep_parts=False, table=None)
    assert report["outcome"] == "planned" and not LAKE.exists(), report
    report = defender_lake.ingest(**LOCAL, max_rejects=0, threads=2, memory="128MiB")
    assert report["outcome"] == "published" and report["totals"]["rows"] > 0, report
    assert defender_lake.ingest(**LOCAL)["outcome"] == "skipped"
    [manifest] = defender_lake.snapshots(LAKE)
    assert manifest["run_id"] == report["run_id"] and manifest["totals"] == report["totals"]
    assert defender_lake.snapshots(str(LAKE), dataset="all") == [manifest]
    assert defender_lake.snapshots("elsewhere") == []


def several_datasets():
    """Of the service: a list of reports, and one that fails does not stop the others."""
    reports = defender_lake.ingest(**WORK, dataset=["certificates", "software-inventory"])
    assert [report["dataset"] for report in reports] == ["certificates", "software_inventory"], reports
    names = "certificates,hardware-firmware"
    error = raised(lambda: defender_lake.ingest(**WORK, dataset=names, if_published="fail"))
    assert [report["outcome"] for report in error.reports] == ["failed", "published"], error.reports
    assert error.exit_code == 6 and str(error).startswith("certificates: "), error


def errors():
    part = Path("rejected.json")
    part.write_text("\n".join(['{"OSPlatform":"Linux"}', '{"DeviceId":"a"}']))
    one = {**WORK, "from_": str(part), "generated_time": "2021-01-12T11:01:00Z"}
    before = listing()
    for code, expected, options in [
        (2, "unexpected argument '--lak' found; a similar one exists: '--lake'", {"lak": "x"}),
        (2, "invalid value for '--threads <N>': expected a whole number of at least 1", {"threads": "hunter2"}),
        (2, "--memory: expected at least 64.0 MiB", {"memory": 1}),
        (2, "--dataset: unknown dataset", {"dataset": "hunter2"}),
        (2, "nothing*: no files match", {**one, "from_": "nothing*"}),
        (4, "part rejected.json is damaged: ", {**one, "max_rejects": "5%", "from_": [part, "parts"]}),
        (5, "1 of 2 records were rejected, more than 0", {**one, "max_rejects": 0}),
        (6, "is already in the lake", {**LOCAL, "if_published": "fail"}),
    ]:
        if code == 4:
            part.write_text(part.read_text() + "\nno json" * 200)
        error = raised(lambda: defender_lake.ingest(**options))
        if code == 4:
            part.write_text("\n".join(['{"OSPlatform":"Linux"}', '{"DeviceId":"a"}']))
        assert error.exit_code == code and expected in str(error), (expected, error, error.exit_code)
        assert "hunter2" not in str(error)
        assert error.hint is None or str(error).endswith(f"; hint: {error.hint}")
        assert [report["exit_code"] for report in error.reports] in ([], [code])
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.exit_code, copy.hint) == (str(error), error.exit_code, error.hint)
    assert listing() == before, "the lake is as it was"
    for options in [{"json": True}, {"lake": object()}, {"threads": [b"x"]}]:
        try:
            defender_lake.ingest(**options)
        except TypeError:
            continue
        raise AssertionError(f"no TypeError: {options}")
    manifest = LAKE / "_defender/software_inventory/snapshots" / "20210111T110100Z" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text("{")
    error = raised(lambda: defender_lake.snapshots(LAKE))
    manifest.write_text(text)
    assert error.exit_code == 6 and "manifest.json is damaged" in str(error), error


def log():
    """The log goes to `logging`, at the level of its logger; without one, nothing is on stderr."""
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append((record.levelname, record.name, record.getMessage()))

    logger = logging.getLogger("defender_lake")
    handler = Handler()
    logger.addHandler(handler)
    options = {**LOCAL, "if_published": "replace"}
    defender_lake.ingest(**options)
    assert not [line for line in lines if line[0] == "INFO"], lines
    logger.setLevel("DEBUG")
    defender_lake.ingest(**options)
    logger.removeHandler(handler)
    logger.setLevel("NOTSET")
    assert any(level == "DEBUG" and "part decoded" in text for level, _, text in lines), lines
    assert {name for _, name, _ in lines} == {"defender_lake"}


def interrupt():
    """Ctrl-C ends a call that waits, on a pipe without a writer here; other threads run meanwhile."""
    os.mkfifo("waiting")
    before = listing()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    try:
        defender_lake.ingest(**{**LOCAL, "from_": "waiting"})
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("not interrupted")
    # The timer's thread needed the GIL.
    assert 0.2 < time.monotonic() - started < 10
    assert listing() == before, "the lake is as it was"
    assert defender_lake.ingest(**LOCAL)["outcome"] == "skipped", "the next call is another"


def fork():
    """A child that was forked after a call makes calls of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if defender_lake.ingest(**LOCAL)["outcome"] == "skipped" else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def options_are_those_of_the_program():
    """The stubs have an argument for each option, but those about output."""
    stubs = ast.parse((Path(defender_lake.__file__).parent / "_native.pyi").read_text())
    [ingest] = [node for node in stubs.body if isinstance(node, ast.FunctionDef) and node.name == "ingest"]
    arguments = {argument.arg.rstrip("_").replace("_", "-") for argument in ingest.args.kwonlyargs}
    help_text = run("ingest", "--help").stdout
    options = set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", help_text, re.MULTILINE))
    assert arguments == options - {"json", "progress", "quiet", "verbose", "log-format", "help"}, arguments ^ options


def command_line():
    version = run("--version")
    assert (version.returncode, version.stdout) == (0, f"defender-lake {defender_lake.__version__}\n")
    usage = run("ingets")
    assert usage.returncode == 2 and "a similar one exists: 'ingest'" in usage.stderr, usage
    listed = run("snapshots", "--json", "--lake", str(LAKE))
    assert listed.returncode == 0 and len(json.loads(listed.stdout)) == len(defender_lake.snapshots(LAKE))
    for sent in [signal.SIGINT, signal.SIGTERM]:
        arguments = ["ingest", "--lake", LAKE, "--work-dir", "work", "--generated-time", TIME, "--from", "waiting"]
        command = [sys.executable, "-m", "defender_lake", *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert "reading a pipe" in process.stderr.readline()
        process.send_signal(sent)
        rest = process.stderr.read()
        assert process.wait() == 130 and "Traceback" not in rest and "interrupted; nothing was published" in rest, rest


def listing():
    return {path: path.stat().st_size for path in LAKE.rglob("*") if path.is_file()}


def raised(call):
    try:
        call()
    except defender_lake.Error as error:
        return error
    raise AssertionError("nothing was raised")


main()
