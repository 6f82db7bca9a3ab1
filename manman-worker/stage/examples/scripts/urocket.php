<?php
// For PHP scripts that set a socket and no URL, and know nothing of request ids. libcurl does nothing
// without a URL, so this gives them one. It goes before the script, unchanged:
//
//   cmd: php -d disable_functions=curl_exec -d auto_prepend_file=/path/to/urocket.php script.php
//
// A function that is disabled may be defined anew since PHP 8.0; the transfer itself is the multi
// interface's.
function curl_exec(CurlHandle $handle): string|bool
{
    if (curl_getinfo($handle, CURLINFO_EFFECTIVE_URL) === '') {
        curl_setopt($handle, CURLOPT_URL, 'http://localhost/uri/' . getenv('REQUEST_ID'));
    }
    $multi = curl_multi_init();
    curl_multi_add_handle($multi, $handle);
    do {
        $status = curl_multi_exec($multi, $running);
        if ($running) {
            curl_multi_select($multi);
        }
    } while ($running && $status === CURLM_OK);
    $info = curl_multi_info_read($multi);
    $answer = curl_multi_getcontent($handle);
    curl_multi_remove_handle($multi, $handle);
    return $info !== false && $info['result'] === CURLE_OK ? ($answer ?? true) : false;
}
