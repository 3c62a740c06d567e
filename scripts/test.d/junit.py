#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints `passed failed skipped` of a JUnit file, then the failed cases' names, a line each."""
import sys
import xml.etree.ElementTree as ET

passed = skipped = 0
failures = []
for case in ET.parse(sys.argv[1]).getroot().iter('testcase'):
    if case.find('failure') is not None or case.find('error') is not None:
        failures.append(f"{case.get('classname', '')}.{case.get('name')}")
    elif case.find('skipped') is not None:
        skipped += 1
    else:
        passed += 1
print(passed, len(failures), skipped)
for name in failures:
    print(name)
