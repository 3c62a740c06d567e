#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rules that need no compiler: licence lines, lengths, promised work, which folder may include what.

Reads file names from standard input, prints `file:line: rule: what, and how to mend it`; exit status 1 if anything was found.
"""
import ast
import os
import re
import sys

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
CODE = ('.h', '.cc', '.c', '.py', '.sh')
LICENCES = {'bpf': 'GPL-2.0-only OR Apache-2.0'}
# In pieces, so that this file does not hold them.
PROMISES = re.compile(r'\b(TO' r'DO|FIX' r'ME|XX' r'X)\b')

STD_HEADER = re.compile(r'^[a-z_0-9]+$')  # <vector>, <cstdint>
LIBC_HEADER = re.compile(r'^((sys|netinet|arpa|net|linux)/[a-z_0-9/]+|fcntl|unistd|errno|poll|dirent|signal|sched|time|'
                         r'pthread|endian|byteswap|immintrin|x86intrin|emmintrin)\.h$')
DPDK_HEADER = re.compile(r'^(rte_|ethdev_|bus_)')
AGENT_FROM_CONTROL = ('control/config_reader.h', 'control/host.h', 'control/netlink.h', 'control/printable.h')
# Folder: (which quoted includes it may have, which angled ones it may have, the rule in words).
RULES = {
    'contract': (
        lambda name: name.startswith('contract/'),
        lambda name: bool(STD_HEADER.match(name) or LIBC_HEADER.match(name) or name == 'xxhash.h'),
        'contract/ uses contract/, libc, the C++ library and xxhash only'),
    'dataplane': (
        lambda name: not name.startswith(('control/', 'tests/', 'bench/')),
        lambda name: not re.match(r'^(nlohmann|yaml-cpp|CLI|boost|libmnl|nftables)/', name),
        'dataplane/ uses contract/ and DPDK, never control/ or its libraries'),
    'control': (
        lambda name: not name.startswith(('dataplane/', 'tests/', 'bench/')),
        lambda name: not DPDK_HEADER.match(name),
        'control/ uses contract/ and its libraries, never dataplane/ or DPDK'),
    'agent': (
        lambda name: name.startswith(('agent/', 'bpf/', 'contract/')) or name in AGENT_FROM_CONTROL,
        lambda name: not re.match(r'^(rte_|ethdev_|bus_|boost/)', name),
        'agent/ uses bpf/, contract/, and of control/ what reads YAML and speaks netlink, never DPDK'),
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


class Findings:
    def __init__(self):
        self.count = 0

    def add(self, path, line, rule, text):
        self.count += 1
        print(f'{path}:{line}: {rule}: {text}')


def is_script(text):
    return text.startswith('#!')


def check_licence(path, lines, found):
    folder = path.split('/')[0]
    wanted = LICENCES.get(folder, 'Apache-2.0') if path.endswith(('.h', '.c')) else 'Apache-2.0'
    if not any('SPDX-License-Identifier: ' in line and line.rstrip(' */').endswith(wanted) for line in lines[:4]):
        found.add(path, 1, 'licence', f'no "SPDX-License-Identifier: {wanted}" in the first lines; add it')


def check_promises(path, lines, found):
    for number, line in enumerate(lines, 1):
        if PROMISES.search(line):
            found.add(path, number, 'promise', 'work promised in a comment; do it, or write it up in docs/')


def check_includes(path, lines, found):
    rule = RULES.get(path.split('/')[0])
    if rule is None:
        return
    quoted, angled, words = rule
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match and not (quoted(match[1]) if match[1] else angled(match[2])):
            found.add(path, number, 'dependency', f'{words}; move what needs it, or pass it in')


def blank_out(text):
    """The text with comments, strings and preprocessor lines made of spaces, line by line the same."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])*\''
        r'|^[ \t]*#(?:[^\n\\]|\\.|\\\n)*', re.S | re.M)
    return pattern.sub(lambda match: re.sub(r'[^\n]', ' ', match[0]), text)


def opens_body(head):
    """Whether a brace after this text begins a function's body."""
    if re.search(r'\)\s*(noexcept\s*)?:[^:]', head):  # a constructor's list: `x_{1}` is a value
        return head.rstrip().endswith((')', '}'))
    return bool(re.search(r'\)[^()=]*$|\boperator\b', head))


def c_functions(text):
    """Yields (line, length) of each function body's definition, by matching braces."""
    text = blank_out(text)
    stack = []  # of (is_function, is_scope, line where its head begins)
    head_start = 0
    for match in re.finditer(r'[{};]', text):
        at, char = match.start(), match[0]
        is_function = is_scope = False
        if char == '{':
            head = text[head_start:at]
            is_scope = bool(re.search(r'\b(namespace|class|struct|union|enum|extern)\b[^()]*$', head))
            is_function = not is_scope and not any(entry[0] for entry in stack) and opens_body(head)
            begin = head_start + len(head) - len(head.lstrip())
            stack.append((is_function, is_scope, text.count('\n', 0, begin) + 1))
        elif char == '}' and stack:
            is_function, is_scope, line = stack.pop()
            if is_function:
                yield line, text.count('\n', 0, at) + 2 - line
        # Braces that are values, `x_{1}` in a constructor's list, leave the head open.
        if char == ';' or is_function or is_scope:
            head_start = at + 1


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield node.lineno, node.end_lineno - node.lineno + 1


def shell_functions(text):
    lines = text.split('\n')
    begin = None
    for number, line in enumerate(lines, 1):
        if begin is None and re.match(r'^[a-z_0-9]+\(\) [{(]', line) and not line.rstrip().endswith('}'):
            begin = number
        elif begin is not None and line in ('}', ')'):
            yield begin, number - begin + 1
            begin = None


def functions_of(path, text):
    if path.endswith(('.h', '.cc', '.c')):
        return c_functions(text)
    if path.endswith('.py') or text.startswith('#!/usr/bin/python3'):
        return python_functions(text)
    return shell_functions(text)


def check_lengths(path, text, lines, found):
    if len(lines) > MAX_FILE_LINES:
        found.add(path, MAX_FILE_LINES, 'length', f'{len(lines)} lines, at most {MAX_FILE_LINES}; split it by what it does')
    for line, length in functions_of(path, text):
        if length > MAX_FUNCTION_LINES:
            found.add(path, line, 'length',
                      f'a function of {length} lines, at most {MAX_FUNCTION_LINES}; give its steps names of their own')


def check(path, found):
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
    except UnicodeDecodeError:
        return  # a capture or an image
    lines = text.splitlines()
    named = os.path.basename(path)
    if not (path.endswith(CODE) or is_script(text) or named in ('meson.build', 'meson_options.txt')):
        return
    check_licence(path, lines, found)
    check_promises(path, lines, found)
    check_includes(path, lines, found)
    check_lengths(path, text, lines, found)


def main():
    found = Findings()
    for name in sys.stdin.read().split('\n'):
        if name:
            check(name, found)
    sys.exit(1 if found.count else 0)


main()
