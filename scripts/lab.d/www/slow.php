<?php
// SPDX-License-Identifier: Apache-2.0
// Answers after ?seconds=N: the client that waits and never sends another packet.
header('Content-Type: text/plain');
usleep((int)(1e6 * (float)($_GET['seconds'] ?? 5)));
echo getenv('LAB_HOST'), "\n";
