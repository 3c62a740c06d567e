#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-control's checks of a real Apache: http, https and tls, with certificates good and bad, with and without the
PROXY protocol.

usage: control_checks_test.py PORTICO_CONTROL
"""

import os
import shutil
import signal
import subprocess
import sys
import time

from control_rig import Backend, ControlCase, Inside, main, request, run

APACHE = "/usr/sbin/apache2"
MODULES = "/usr/lib/apache2/modules"
HTTPD = """
ServerRoot {dir}
ServerName portal.example.com
PidFile {dir}/pid
ErrorLog {dir}/error.log
LogLevel warn
SSLSessionCache none
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule remoteip_module {modules}/mod_remoteip.so
DocumentRoot {dir}/www
Listen 198.18.1.1:8081
Listen 198.18.1.1:8443
Listen 198.18.1.1:8444
Listen 198.18.1.1:8445
<VirtualHost *:8443>
  SSLEngine on
  SSLCertificateFile {dir}/long.pem
</VirtualHost>
<VirtualHost *:8444>
  SSLEngine on
  SSLCertificateFile {dir}/expired.pem
</VirtualHost>
<VirtualHost *:8445>
  RemoteIPProxyProtocol On
  SSLEngine on
  SSLCertificateFile {dir}/short.pem
</VirtualHost>
"""
CONFIG = """
version: 1
instance: control-test
dataplane: {{ports: [eth0]}}
nat: {{addresses: [198.18.0.20]}}
services:
  web: {{listen: "198.18.0.10:8081", pool: portals}}
  proxied: {{listen: "198.18.0.10:8445", pool: portals, proxy_protocol: v2}}
pools:
  portals:
    check: {{interval: 100ms, fast_interval: 20ms, timeout: 5s}}
    backends: {{portal-1: 198.18.1.1}}
    checks: {{{checks}}}
"""


class ChecksTest(ControlCase):
    def setUp(self):
        super().setUp()
        os.chmod(self.dir, 0o755)
        os.mkdir(self.dir + "/www")
        self.write("www/health.html", "all is well\n")
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                     "-days", "90", "-subj", "/CN=Test authority")
        for name, days in ("long", 60), ("short", 5), ("expired", -1):
            self.issue(name, days)
        self.write("httpd.conf", HTTPD.format(dir=self.dir, modules=MODULES))
        with Inside(Backend.network):
            self.apache = subprocess.Popen([APACHE, "-f", self.dir + "/httpd.conf", "-DFOREGROUND"])
        self.wait(lambda: os.path.exists(self.dir + "/pid"), "Apache runs")

    def tearDown(self):
        self.apache.send_signal(signal.SIGTERM)
        self.apache.wait(20)
        super().tearDown()

    def write(self, name, text):
        with open(f"{self.dir}/{name}", "w") as f:
            f.write(text)

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.dir)

    def issue(self, name, days):
        """NAME.pem: a key and a certificate for portal.example.com of the test's authority."""
        self.write("san", "subjectAltName=DNS:portal.example.com\n")
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr",
                     "-subj", "/CN=portal.example.com")
        self.openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", name + ".crt",
                     "-days", str(days), "-extfile", "san", "-set_serial", str(hash(name) % 1000000 + 1))
        with open(f"{self.dir}/{name}.pem", "w") as whole:
            for part in (".key", ".crt"):
                with open(self.dir + "/" + name + part) as f:
                    whole.write(f.read())

    def apply(self, checks):
        self.write("portico.yaml", CONFIG.format(checks=checks))
        if self.process is None:
            return self.start()
        status, answer = self.post("/v1/reload")
        self.assertEqual(status, 200, answer)

    def wait_check(self, state, reason="", name="a"):
        """Waits for a check's state and reason; the check."""
        last = []

        def reached():
            last[:] = [c for c in self.backend("portal-1")["checks"] if c["name"] == name]
            return last and last[0]["state"] == state and reason in last[0]["reason"]
        try:
            self.wait(reached, f"{state}: {reason}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {last}") from None
        return last[0]

    def test_http_reads_status_and_body(self):
        self.apply("a: {port: 8081, kind: http, path: /health.html, body: 'all is (well|fine)'}")
        self.wait_check("up")
        self.write("www/health.html", "closed for maintenance\n")
        self.wait_check("down", 'not the expected body, but "closed for maintenance')
        os.remove(self.dir + "/www/health.html")
        self.wait_check("down", 'status 404 "Not Found"')
        self.apply("a: {port: 8081, kind: http, method: HEAD, path: /health.html, status: '200-299,404'}")
        self.wait_check("up")
        with Inside(Backend.network):
            waiting = run("ss", "-Htan", "state", "time-wait")
        self.assertEqual(waiting + run("ss", "-Htan", "state", "time-wait"), "", "connections in TIME_WAIT")

    def test_https_verifies_the_certificate(self):
        trusted = "ca_file: ca.pem, sni: portal.example.com"
        self.apply("a: {port: 8443, kind: https, path: /health.html, ca_file: ca.pem, host: portal.example.com}")
        check = self.wait_check("up")
        self.assertIn(check["certificate_days"], (59, 60))
        self.assertEqual(self.status()["pools"][0]["warnings"], ["no redundancy"])
        metrics = request(self.socket(), "GET", "/metrics")[1]
        line = next(x for x in metrics.splitlines() if x.startswith("portico_check_certificate_remaining_seconds{"))
        self.assertIn('check="a"', line)
        self.assertAlmostEqual(float(line.split()[-1]), 60 * 86400, delta=600)
        self.apply("a: {port: 8443, kind: https, ca_file: ca.pem, sni: other.example.com, status: '200-499'}")
        self.wait_check("down", "certificate: hostname mismatch")
        self.apply("a: {port: 8443, kind: https, sni: portal.example.com, status: '200-499'}")
        self.wait_check("down", "certificate: unable to get local issuer certificate")
        self.apply(f"a: {{port: 8444, kind: tls, {trusted}}}")
        check = self.wait_check("down", "certificate: certificate has expired")
        self.assertLess(check["certificate_days"], 0)
        self.apply("a: {port: 8444, kind: tls, verify: off}")
        self.wait_check("up")
        self.assertIn("the certificate of portal-1 (check a) has expired", self.status()["pools"][0]["warnings"])
        self.apply("a: {port: 8081, kind: tls, verify: off}")
        self.wait_check("down", "in the TLS handshake")

    def test_tls_begins_with_the_proxy_header_where_that_is_spoken(self):
        self.apply("a: {port: 8445, kind: https, path: /health.html, ca_file: ca.pem, host: portal.example.com}")
        self.wait_check("up")
        warnings = self.status()["pools"][0]["warnings"]
        self.assertRegex(" / ".join(warnings), r"the certificate of portal-1 \(check a\) expires in [45] days")
        self.assertEqual(self.status()["level"], "unserved")  # no dataplane
        self.apply("a: {port: 8445, kind: tls, verify: off, proxy_protocol: none}")
        self.wait_check("down", "in the TLS handshake")

    def test_the_servers_log_stays_quiet(self):
        self.apply("a: {port: 8443, kind: tls, verify: off}, b: {port: 8445, kind: tls, verify: off}, "
                   "c: {port: 8081, kind: http, path: /health.html}")
        for name in "abc":
            self.wait_check("up", name=name)
        time.sleep(1)  # ten probes of each
        with open(self.dir + "/error.log") as log:
            said = [line for line in log if (":warn]" in line or ":error]" in line) and " Init: " not in line]
        self.assertEqual(said, [])

    def test_checks_come_from_their_source(self):
        self.apply("a: {port: 8081, kind: http, path: /health.html, source: 198.18.1.254}")
        self.wait_check("up")
        self.apply("a: {port: 8081, kind: http, path: /health.html, source: 198.18.1.99}")
        self.wait_check("up", "cannot probe: Cannot assign requested address")

    def test_a_ca_file_that_makes_no_sense_is_refused(self):
        self.apply("a: {port: 8443, kind: tls, verify: off}")
        self.write("bad.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n")
        for name, text in ("bad.pem", "is not a list of certificates"), ("none.pem", "cannot read CA file"):
            self.write("portico.yaml", CONFIG.format(
                checks=f"a: {{port: 8443, kind: tls, sni: portal.example.com, ca_file: {name}}}"))
            status, answer = self.post("/v1/reload")
            self.assertEqual(status, 422)
            self.assertIn(text, answer["messages"][-1]["text"])


if __name__ == "__main__":
    if not shutil.which(APACHE) or not shutil.which("openssl"):
        print("SKIPPED: this host has no apache2 or no openssl")
        sys.exit(77)
    main()
