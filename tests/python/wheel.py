"""What is in the wheel.

    wheel.py WHEEL REPOSITORY HOME
"""

import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import defender_lake

MAX_BYTES = 14_000_000


def main():
    wheel, repository, home = map(Path, sys.argv[1:])
    size = wheel.stat().st_size
    assert size < MAX_BYTES, f"{size} bytes"
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, version, python, abi) == ("defender_lake", defender_lake.__version__, "cp310", "abi3"), wheel
    assert platform.startswith(("manylinux_2_", "linux_", "macosx_")), platform
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"{name}-{version}.dist-info"
        assert [one for one in names if one.endswith((".so", ".dylib"))] == ["defender_lake/_native.abi3.so"], names
        wanted = {"__init__.py", "__main__.py", "_native.pyi", "py.typed", "spark/__init__.py"}
        assert {f"defender_lake/{one}" for one in wanted} | {"pyspark_defender/__init__.py"} <= set(names), names
        others = [one for one in names if not one.startswith(("defender_lake/", "pyspark_defender/", f"{info}/"))]
        assert not others and not [one for one in names if "__pycache__" in one or "sbom" in one], names
        # What builds it is not in it: neither the places of its sources nor the engine of `query`.
        foreign = [str(repository), f"{home}/.cargo", f"{home}/.rustup", "/polars-"]
        for one in names:
            content = archive.read(one)
            for text in foreign:
                at = content.find(text.encode())
                assert at < 0, f"{one} has {content[max(at - 60, 0) : at + 120]!r}"
        metadata = archive.read(f"{info}/METADATA").decode()
        for line in ["Requires-Python: >=3.10", "Provides-Extra: spark", "License-Expression: MIT OR Apache-2.0"]:
            assert line in metadata, metadata
        assert "defender-lake=defender_lake.__main__:main" in archive.read(f"{info}/entry_points.txt").decode()
    # It is the one that is installed.
    installed = distribution("defender-lake")
    native = Path(defender_lake._native.__file__)
    with zipfile.ZipFile(wheel) as archive:
        assert native.read_bytes() == archive.read("defender_lake/_native.abi3.so"), "another one is installed: run `make test-tools`"
    script = next(Path(file.locate()) for file in installed.files if file.name == "defender-lake")
    shown = subprocess.run([script, "--version"], check=True, capture_output=True, text=True).stdout
    assert shown == f"defender-lake {version}\n", shown
    # The stubs say what is there, what is only for Spark's half aside.
    command = [sys.executable, "-m", "mypy.stubtest", "--ignore-missing-stub", "defender_lake._native"]
    stubs = subprocess.run(command, capture_output=True, text=True)
    assert stubs.returncode == 0, stubs.stdout + stubs.stderr


main()
