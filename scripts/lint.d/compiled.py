#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rules that need a compiler, run side by side on all cores, each file with the flags the build uses for it.

  compiled.py headers            every header compiles alone
  compiled.py tidy default       clang-tidy on agent/, contract/, dataplane/, control/, without its static analyzer
  compiled.py tidy all           ... with it, and on tests/ and bench/, too
  compiled.py tidy changed       ... only on what differs from main, or includes a header that does

Takes the flags from build/compile_commands.json. A file that passed is left out until it, a project header it includes or the
rules change: build/lint-cache holds an empty file per pass, named after a hash of all of these.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys

BUILD = 'build'
CACHE = os.path.join(BUILD, 'lint-cache')
PRODUCT = ('agent/', 'contract/', 'dataplane/', 'control/')
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
SEEN_LINE = re.compile(r'^(.*?:\d+):\d+: (?:fatal )?(?:error|warning): (.*)$')


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def git_files(*patterns):
    out = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard', '--', *patterns], check=True, capture_output=True,
                         text=True).stdout
    return [name for name in out.splitlines() if os.path.isfile(name)]


def closure(path, known):
    """The file and every project header it includes, directly or not."""
    if path not in known:
        known[path] = {path}
        for name in INCLUDE.findall(read(path).decode('utf-8', 'replace')):
            if os.path.isfile(name):
                known[path] |= closure(name, known)
    return known[path]


def compile_flags():
    """Source file (relative to the root) -> the flags the build compiles it with, without input and output."""
    flags = {}
    for entry in json.loads(read(os.path.join(BUILD, 'compile_commands.json'))):
        source = os.path.relpath(os.path.join(entry['directory'], entry['file']))
        words = shlex.split(entry['command'])
        while words and not words[0].startswith('-'):
            words.pop(0)  # ccache, g++
        kept, skip = [], False
        for word in words:
            if skip:
                skip = False
            elif word in ('-o', '-c', '-MF', '-MQ'):
                skip = True
            elif word not in ('-MD', '-g') and not word.startswith(('-O', '-Werror', '-fdiagnostics')):
                kept.append(word)
        flags.setdefault(source, kept)
    return flags


def flags_for_header(header, flags):
    """Those of the source beside it, else of one that includes it, best of the same folder."""
    folder = os.path.dirname(header)
    twin = os.path.splitext(header)[0] + '.cc'
    if twin in flags:
        return flags[twin]
    known = {}
    for source in sorted(flags, key=lambda name: (os.path.dirname(name) != folder, name)):
        if os.path.isfile(source) and header in closure(source, known):
            return flags[source]
    # Of targets that this build does not have, such as fuzzers: as other sources of the same folder at the top.
    if any(f'"{header}"'.encode() in read(source) for source in git_files('*.cc')):
        return next((flags[source] for source in sorted(flags) if source.split('/')[0] == header.split('/')[0]), None)
    return None


def digest(path, known, *more):
    state = hashlib.sha256()
    for part in sorted(closure(path, known)):
        state.update(part.encode() + b'\0' + read(part))
    for part in more:
        state.update(b'\0' + (part if isinstance(part, bytes) else part.encode()))
    return state.hexdigest()


def run_one(job):
    """(name, stamp, command, input, how to mend) -> lines to show; no line is a pass."""
    name, stamp, command, text, mend = job
    if os.path.exists(stamp):
        return []
    done = subprocess.run(command, input=text, cwd=BUILD, capture_output=True, text=True, check=False)
    root = os.getcwd() + '/'
    lines = []
    for line in (done.stdout + done.stderr).splitlines():
        match = SEEN_LINE.match(line)
        if match:
            place = os.path.relpath(os.path.join(BUILD, match[1].replace(root, '../', 1)))
            lines.append(f'{place}: {match[2]}; {mend}')
    if done.returncode == 0:
        with open(stamp, 'w', encoding='ascii'):
            pass
        return []
    return sorted(set(lines)) or [f'{name}:1: {command[0]} failed: {(done.stderr or done.stdout)[-400:]}']


def run_all(jobs):
    os.makedirs(CACHE, exist_ok=True)
    shown = set()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for lines in pool.map(run_one, jobs):
            for line in lines:
                if line not in shown:
                    print(line, flush=True)
                    shown.add(line)
    return 1 if shown else 0


def headers():
    flags, known, jobs = compile_flags(), {}, []
    for header in git_files('*.h'):
        used = flags_for_header(header, flags)
        if used is None:
            print(f'{header}:1: headers: no source includes it or stands beside it; use it or remove it')
            return 1
        stamp = os.path.join(CACHE, 'header-' + digest(header, known, ' '.join(used)))
        language = 'c' if any(word.startswith('-std=c1') for word in used) else 'c++'
        compiler = 'gcc' if language == 'c' else 'g++'
        jobs.append((header, stamp, [compiler, *used, '-Werror', '-fsyntax-only', '-x', language, '-'],
                     f'#include "{header}"\n', 'headers: it must compile alone: include what it uses'))
    return run_all(jobs)


def differs_from_main():
    base = subprocess.run(['git', 'merge-base', 'HEAD', 'main'], capture_output=True, text=True, check=False).stdout.strip()
    out = subprocess.run(['git', 'diff', '--name-only', base or 'HEAD'], check=True, capture_output=True, text=True).stdout
    return set(out.splitlines())


def tidy(which):
    flags, known, jobs = compile_flags(), {}, []
    rules = read('.clang-tidy')
    changed = differs_from_main() if which == 'changed' else None
    for source in git_files('*.cc', '*.c'):
        product = source.startswith(PRODUCT)
        if source not in flags or not (product or which in ('all', 'changed')):
            continue
        if changed is not None and not closure(source, known) & changed:
            continue
        # The analyzer's path search takes several times as long as all else together; over a test's macros it finds nothing
        # that the test would not.
        extra = [] if product and which == 'all' else ['--checks=-clang-analyzer-*']
        stamp = os.path.join(CACHE, 'tidy-' + digest(source, known, ' '.join(flags[source] + extra), rules))
        jobs.append((source, stamp, ['clang-tidy', '--quiet', *extra, os.path.abspath(source), '--', *flags[source],
                                     '-Wno-unknown-warning-option', '-Wno-unused-command-line-argument'], None, 'see .clang-tidy'))
    return run_all(jobs)


def main():
    if sys.argv[1:] == ['headers']:
        return headers()
    if len(sys.argv) == 3 and sys.argv[1] == 'tidy':
        return tidy(sys.argv[2])
    print(__doc__)
    return 2


sys.exit(main())
