<?php
// SPDX-License-Identifier: Apache-2.0
// A line every tenth of a second for ?seconds=N, then "end": a download that is under way for as long as a test needs.
header('Content-Type: text/plain');
$lines = (int)(10 * (float)($_GET['seconds'] ?? 5));
for ($line = 1; $line <= $lines; ++$line) {
  echo getenv('LAB_HOST'), ' ', $line, "\n";
  flush();
  usleep(100000);
}
echo "end\n";
