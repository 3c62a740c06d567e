#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The manual page and completion that come of the command line's declarations.

usage: cli_declarations_test.py PORTICO
"""
import http.server
import json
import os
import pty
import re
import select
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

PORTICO = Path()
STATUS = {
    'services': [{'name': 'portal-https'}],
    'pools': [{'name': 'a', 'backends': [{'name': 'portal-1'}, {'name': 'both'}]}, {'name': 'b', 'backends': [{'name': 'both'}]}],
}
CONFIGS = {'configs': [{'version': 4}, {'version': 3}]}


class Control(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({'/v1/status': STATUS, '/v1/configs': CONFIGS}[self.path]).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return 'cli'

    def log_message(self, *_):
        pass


def declarations(what):
    return subprocess.run([PORTICO, 'declarations', what], capture_output=True, text=True, check=True).stdout


class DeclarationsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix='portico-declarations-'))
        cls.server = socketserver.ThreadingUnixStreamServer(str(cls.folder / 'control.sock'), Control)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        for what in ('man', 'bash', 'zsh'):
            (cls.folder / what).write_text(declarations(what))
        cls.environment = os.environ | {'PATH': f'{PORTICO.parent}:{os.environ["PATH"]}', 'PORTICO_RUN_DIR': str(cls.folder)}

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()
        shutil.rmtree(cls.folder)

    def commands(self):
        said = subprocess.run([PORTICO, '--help'], capture_output=True, text=True, check=True).stdout
        return [line.split()[0] for line in said.split('Subcommands:')[1].splitlines() if line.startswith('  ') and line[2] != ' ']

    # What the shell offers after these words; the last one is being written.
    def bash(self, *words):
        script = ('source "$1"; shift; COMP_WORDS=(portico "$@"); COMP_CWORD=$#; _portico; printf "%s\\n" "${COMPREPLY[@]}"')
        said = subprocess.run(['bash', '--norc', '-c', script, 'bash', self.folder / 'bash', *words], capture_output=True,
                              text=True, check=True, env=self.environment, cwd=self.folder)
        self.assertEqual(said.stderr, '')
        return said.stdout.split()

    # zsh filters by the prefix itself, so this is all that is offered.
    def zsh(self, *words):
        script = ('file=$1; shift; compdef() { : }; _files() { echo FILES }; compadd() { shift; print -l -- "$@" }; '
                  'source $file; words=(portico "$@"); CURRENT=$((1 + $#)); _portico')
        said = subprocess.run(['zsh', '-f', '-c', script, 'zsh', self.folder / 'zsh', *words], capture_output=True, text=True,
                              check=True, env=self.environment)
        self.assertEqual(said.stderr, '')
        return said.stdout.split()

    def test_the_manual_page_has_all_commands_and_renders(self):
        page = subprocess.run(['mandoc', '-T', 'utf8', self.folder / 'man'], capture_output=True, text=True, check=True)
        text = re.sub('.\b', '', page.stdout)  # bold is struck twice
        commands = self.commands()
        self.assertGreater(len(commands), 15)
        for command in commands:
            self.assertRegex(text, rf'(?m)^ +portico {command}\b')
        self.assertIn('--deadline', text)
        self.assertNotIn('declarations', text)
        lint = subprocess.run(['mandoc', '-T', 'lint', self.folder / 'man'], capture_output=True, text=True)
        # It has no date, so that the same sources make the same page.
        self.assertEqual([line for line in lint.stdout.splitlines() if 'missing date' not in line], [])

    def test_bash_completes_commands_options_and_names(self):
        self.assertEqual(self.bash('dr'), ['drops', 'drain'])
        self.assertEqual(sorted(self.bash('drain', '')[-3:]), ['a/both', 'b/both', 'portal-1'])
        self.assertEqual(self.bash('drain', 'portal'), ['portal-1'])
        self.assertEqual(self.bash('drain', 'portal-1', '--dead'), ['--deadline'])
        self.assertEqual(self.bash('drain', '--deadline', '10m', 'portal'), ['portal-1'])
        self.assertEqual(self.bash('--run-dir', str(self.folder), 'explain', '192.0.2.7', 'p'), ['portal-https'])
        self.assertEqual(self.bash('diff', '4'), ['4'])
        self.assertEqual(self.bash('what-if', '--remove', 'portal'), ['portal-1'])
        self.assertEqual(self.bash('check-config', 'control'), ['control.sock'])
        self.assertEqual(self.bash('top', '--sort', 'f'), ['flows'])
        self.assertEqual(self.bash('nonsense', 'x'), [])

    def test_bash_is_silent_without_control(self):
        self.assertEqual(self.bash('--run-dir', '/nowhere', 'drain', 'p'), [])

    def test_zsh_completes_commands_options_and_names(self):
        self.assertIn('drain', self.zsh(''))
        offered = self.zsh('drain', '')
        self.assertLess({'portal-1', 'a/both', '--deadline', '--json'}, set(offered))
        self.assertEqual(self.zsh('what-if', '--remove', ''), ['portal-1', 'a/both', 'b/both'])
        self.assertEqual(self.zsh('top', '--sort', '')[-2:], ['bits', 'check'])
        self.assertEqual(self.zsh('check-config', ''), ['FILES'])

    # What the line of an interactive shell shows after these keys.
    def typed(self, shell, prepare, keys):
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execvpe(shell[0], shell, self.environment | {'TERM': 'dumb', 'PS1': '> '})
        try:
            shown = ''
            os.write(terminal, (prepare + '; echo rea""dy\n').encode())
            for awaited, send in (('ready\r', keys + '\t'), (keys.split()[-1] + 'al-1', '\x15exit\n')):
                while awaited not in shown:
                    self.assertTrue(select.select([terminal], [], [], 20)[0], f'{awaited} is not in: {shown}')
                    shown += os.read(terminal, 4096).decode()
                shown = ''
                os.write(terminal, send.encode())
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)

    def test_the_tabulator_completes_in_interactive_shells(self):
        shutil.copy(self.folder / 'zsh', self.folder / '_portico')
        self.typed(['bash', '--norc', '-i'], f'source {self.folder}/bash', 'portico drain --deadline 10m port')
        self.typed(['zsh', '-f', '-i'], f'fpath=({self.folder} $fpath); autoload -U compinit; compinit -u -D',
                   'portico drain --deadline 10m port')

    def test_the_scripts_are_clean(self):
        said = subprocess.run(['shellcheck', '-S', 'warning', self.folder / 'bash'], capture_output=True, text=True)
        self.assertEqual(said.stdout, '')
        subprocess.run(['zsh', '-n', self.folder / 'zsh'], check=True)


if __name__ == '__main__':
    PORTICO = Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
