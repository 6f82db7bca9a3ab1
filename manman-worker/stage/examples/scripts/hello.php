<?php
// PHP (php-cli, php-curl): the payload is the first argument, the answer goes by libcurl.
$answer = json_encode(['language' => 'php', 'got' => json_decode($argv[1] ?? 'null')]);

$ch = curl_init('http://localhost/uri/' . getenv('REQUEST_ID'));
curl_setopt($ch, CURLOPT_UNIX_SOCKET_PATH, getenv('UROCKET_SOCKET'));
curl_setopt($ch, CURLOPT_POST, 1);
curl_setopt($ch, CURLOPT_POSTFIELDS, $answer);
curl_setopt($ch, CURLOPT_RETURNTRANSFER, 1);
curl_setopt($ch, CURLOPT_HTTPHEADER, ['Content-Type: application/json']);
curl_exec($ch);
exit(curl_getinfo($ch, CURLINFO_RESPONSE_CODE) === 204 ? 0 : 1);
