<?php
// SPDX-License-Identifier: Apache-2.0
// The SHA-256 and size of the request's body, of any size.
header('Content-Type: text/plain');
$hash = hash_init('sha256');
$body = fopen('php://input', 'rb');
$size = hash_update_stream($hash, $body);
echo hash_final($hash), ' ', $size, "\n";
