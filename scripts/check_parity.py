# SPDX-License-Identifier: Apache-2.0
"""Fails unless every test marked `parity` ran and passed: check_parity.py JUNIT_XML."""

import subprocess
import sys
import xml.etree.ElementTree as ET


def main(report: str) -> int:
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "parity", "--collect-only", "-q", "tests"],
        capture_output=True,
        text=True,
    ).stdout
    wanted = {line.split("::")[-1] for line in collected.splitlines() if "::" in line}
    passed = {
        case.get("name")
        for case in ET.parse(report).iter("testcase")
        if all(case.find(end) is None for end in ("skipped", "failure", "error"))
    }
    missing = sorted(wanted - passed)
    print(f"parity: {len(wanted) - len(missing)} of {len(wanted)} tests with torch ran and passed")
    for name in missing:
        print(f"  not run: {name}")
    return 1 if missing or not wanted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
