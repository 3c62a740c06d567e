<?php
// SPDX-License-Identifier: Apache-2.0
// The portal's page: names its instance and reads a row from its own database, as the API Portal does. Without the
// database it answers 503 and the reason.
header('Content-Type: application/json');
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
$answer = ['instance' => getenv('LAB_HOST'), 'client' => $_SERVER['REMOTE_ADDR'], 'port' => (int)$_SERVER['REMOTE_PORT']];
try {
  $database = new mysqli(null, 'portal', 'portal', 'portal', 0, getenv('LAB_DIR') . '/mariadb/sock');
  $answer['row'] = $database->query('SELECT name FROM instance WHERE id = 1')->fetch_row()[0];
} catch (mysqli_sql_exception $error) {
  http_response_code(503);
  $answer['error'] = $error->getMessage();
}
echo json_encode($answer, JSON_UNESCAPED_SLASHES), "\n";
