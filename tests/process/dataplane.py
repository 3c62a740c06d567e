#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portico-dataplane as a process: start, adoption, refusals, crashes, stops. Needs root; see rig.py."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import rig  # noqa: E402
from rig import AF_PACKET, DATAPLANE, PORTICO, SOURCE, Setting, feedback, table, telemetry, wait_for  # noqa: E402

REFUSED = 4  # exit status of a dataplane that cannot start; its unit then waits before the next try
IN_MEMORY = "port net_null0\nport net_null1\nnext-hop 198.18.0.1 02:00:00:00:00:01 02:00:00:00:00:02 0\n" \
            "route 0.0.0.0/0 0\npool portals\nbackend portal-1 portals 198.18.0.1 0\n" \
            "service web portals nat\nlisten web 198.18.0.10 80\nnat 198.18.0.20 20000 60000\n"


class DataplaneTest(unittest.TestCase):
    def setUp(self):
        self.set = Setting()
        self.addCleanup(self.set.close)

    def running(self, lines):
        generation = self.set.publisher.publish(lines)
        dataplane = self.set.start()
        dataplane.adopted(generation)
        return dataplane


class Start(DataplaneTest):
    def test_waits_for_the_first_table_and_says_what_to_do(self):
        dataplane = self.set.start()
        dataplane.says("waiting for portico-control")
        self.assertEqual(feedback(self.set.run_dir)["state"], rig.STATE_WAITING)
        self.assertEqual(os.sched_getscheduler(dataplane.process.pid), os.SCHED_OTHER)
        dataplane.adopted(self.set.publisher.publish(IN_MEMORY))
        self.assertEqual(feedback(self.set.run_dir)["state"], rig.STATE_RUNNING)

    def test_stops_on_sigterm_while_waiting(self):
        dataplane = self.set.start()
        dataplane.says("waiting for portico-control")
        self.assertEqual(dataplane.stop(), 0)

    def test_runs_one_to_three_workers_with_a_queue_each(self):
        for workers in (1, 2, 3):
            with self.subTest(workers=workers):
                dataplane = self.running(f"workers {workers}\n" + IN_MEMORY)
                seen = feedback(self.set.run_dir)
                self.assertEqual((seen["worker_count"], seen["port_count"]), (workers, 2))
                for index in range(workers):
                    wait_for("packets at every worker", lambda index=index: telemetry(
                        self.set.run_dir, "/portico/workers")[str(index)]["rx_packets"] > 0)
                self.assertEqual(dataplane.stop(), 0)
                self.assertEqual(feedback(self.set.run_dir)["state"], rig.STATE_STOPPING)

    def test_has_the_priority_of_others_once_it_forwards(self):
        pid = self.running(IN_MEMORY).process.pid
        policies = {os.sched_getscheduler(int(thread)) for thread in os.listdir(f"/proc/{pid}/task")}
        self.assertEqual(policies, {os.SCHED_OTHER})

    def test_an_upgrade_runs_on_the_cpus_of_before(self):
        def cpus():
            threads = (f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task"))
            return sorted((Path(each, "comm").read_text(), sorted(os.sched_getaffinity(int(Path(each).name))))
                          for each in threads)

        dataplane = self.running(IN_MEMORY)
        pid = dataplane.process.pid
        before = cpus()
        for starts in (2, 3):
            self.assertNotIn("error", telemetry(self.set.run_dir, "/portico/upgrade"))
            wait_for("a start anew", lambda starts=starts: dataplane.messages().count("forwarding:") == starts)
            wait_for("the threads of before", lambda: cpus() == before)

    def test_two_instances_run_side_by_side(self):
        self.running(IN_MEMORY)
        other = Setting()
        self.addCleanup(other.close)
        generation = other.publisher.publish(IN_MEMORY)
        other.start().adopted(generation)
        pids = [telemetry(each.run_dir, "/portico/status")["pid"] for each in (self.set, other)]
        self.assertEqual(pids, [each.dataplanes[0].process.pid for each in (self.set, other)])

    def test_dry_run_prints_the_plan_and_starts_nothing(self):
        self.set.publisher.publish(table(**AF_PACKET))
        plan = subprocess.run([DATAPLANE, "--run-dir", self.set.run_dir, "--dry-run"], capture_output=True, text=True)
        self.assertEqual(plan.returncode, 0, plan.stderr)
        self.assertIn("port lan: net_af_packet1,iface=lan0", plan.stdout)
        self.assertIn("--no-pci", plan.stdout)
        self.assertFalse((Path(self.set.run_dir) / "feedback").exists())

    def test_dry_run_tells_programs_where_workers_go_and_why(self):
        self.set.publisher.publish(table(**AF_PACKET))
        command = [DATAPLANE, "--run-dir", self.set.run_dir, "--dry-run", "--json"]
        plan = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
        self.assertEqual([port["name"] for port in plan["ports"]], ["wan", "lan"])
        self.assertEqual(plan["objections"], [])
        self.assertIn("a physical core of its own", plan["workers"][0]["why"])
        self.assertEqual(plan["nodes"][0]["workers"], [0])
        # The same table on a server: two nodes, and the workers asked for on the nodes' cores.
        self.set.publisher.publish(table(workers=4, wan="0000:b1:00.0", lan="enp23s0f0"))
        server = dict(os.environ, HWLOC_XMLFILE=str(SOURCE / "tests/unit/two-nodes.xml"))
        there = subprocess.run([PORTICO, "--run-dir", self.set.run_dir, "topology", "--json"], capture_output=True,
                               text=True, env=server)
        self.assertEqual(there.returncode, 0, there.stdout + there.stderr)
        plan = json.loads(there.stdout)
        self.assertEqual(plan["machine"], "2 NUMA nodes, 8 cores, 16 CPUs")
        self.assertEqual([port["numa_node"] for port in plan["ports"]], [1, 0])
        self.assertEqual([worker["cpu"] for worker in plan["workers"]], [1, 2, 3, 4])
        self.assertEqual([node["workers"] for node in plan["nodes"]], [[0, 1, 2], [3]])

    def test_a_plan_that_cannot_start_says_why(self):
        self.set.publisher.publish(table(wan="nowhere0"))
        plan = subprocess.run([PORTICO, "--run-dir", self.set.run_dir, "topology"], capture_output=True, text=True)
        self.assertEqual(plan.returncode, 4)
        self.assertIn("! it would not start: port nowhere0: there is no interface nowhere0", plan.stdout)
        nothing = subprocess.run([PORTICO, "--run-dir", "/nonexistent", "topology"], capture_output=True, text=True)
        self.assertEqual(nothing.returncode, 4)
        self.assertIn("start portico-control first", nothing.stderr)

    def test_says_its_version_and_refuses_unknown_options(self):
        version = subprocess.run([DATAPLANE, "--version"], capture_output=True, text=True)
        self.assertIn("table ABI", version.stdout)
        wrong = subprocess.run([DATAPLANE, "--bogus"], capture_output=True, text=True)
        self.assertEqual(wrong.returncode, REFUSED)


class Refuses(DataplaneTest):
    def refused(self, lines, *texts):
        self.set.publisher.publish(lines)
        dataplane = self.set.start()
        self.assertEqual(dataplane.ends(), REFUSED)
        for text in texts:
            self.assertIn(text, dataplane.messages())

    def test_a_second_instance_on_the_same_run_directory(self):
        first = self.running(IN_MEMORY)
        second = self.set.start()
        self.assertEqual(second.ends(), REFUSED)
        self.assertIn("second instance on the same run directory", second.messages())
        self.assertIsNone(first.process.poll())

    def test_an_interface_that_does_not_exist(self):
        self.refused(table(wan="nowhere0"), "there is no interface nowhere0", "ip link")

    def test_a_device_that_does_not_open(self):
        self.refused(table(wan="wan net_pcap0,rx_pcap=/nonexistent.pcap,tx_pcap=/dev/null"), "port wan: ", "devargs")

    def test_more_workers_than_queues(self):
        self.refused(table(workers=2), "receives on 1 queues and there are 2 workers", "workers: 1")

    def test_an_mtu_that_does_not_fit(self):
        rig.run("ip", "link", "set", "wan0", "mtu", "9000")
        self.addCleanup(rig.run, "ip", "link", "set", "wan0", "mtu", "1500")
        self.refused(table(), "MTU 9000 do not fit AF_XDP", "ip link set dev wan0 mtu 3498")

    def test_a_cpu_that_does_not_exist(self):
        self.refused("worker-cpus 4000\n" + IN_MEMORY, "no CPU 4000")

    def test_fewer_huge_pages_than_needed(self):
        self.refused("huge-pages on\nmbufs 16777216\n" + IN_MEMORY, "not enough huge pages", "scripts/setup")

    def test_a_run_directory_that_cannot_be(self):
        file = Path(self.set.run_dir) / "file"
        file.write_text("")
        dataplane = rig.Dataplane(str(file / "below"))
        self.assertEqual(dataplane.ends(), REFUSED)
        self.assertIn(str(file), dataplane.messages())
        dataplane.log.close()

    def test_a_running_control_of_another_version(self):
        self.set.publisher.publish(IN_MEMORY)
        with open(Path(self.set.run_dir) / "table", "r+b") as file:
            file.seek(8)
            file.write(struct.pack("<I", 999))  # TableHeader::abi_version
        dataplane = self.set.start()
        self.assertEqual(dataplane.ends(), REFUSED)
        self.assertIn("must be of one version", dataplane.messages())

    def test_no_permission(self):
        self.set.publisher.publish(table())
        # Root without capabilities, as a container without them is.
        bare = subprocess.run(["capsh", "--drop=all", "--", "-c", f"exec {DATAPLANE} --run-dir {self.set.run_dir}"],
                              capture_output=True, text=True, timeout=rig.PATIENCE_S)
        self.assertEqual(bare.returncode, REFUSED, bare.stderr)
        self.assertIn("no permission", bare.stderr)
        self.assertIn("CAP_NET_ADMIN", bare.stderr)


class Forwards(DataplaneTest):
    """The same through each kind of port."""

    def exercise(self, lines):
        dataplane = self.running(lines)
        client_port, nat_port = self.set.connect()
        explained = telemetry(self.set.run_dir, f"/portico/explain,{rig.CLIENT},{client_port},{rig.VIP},80")
        self.assertEqual((explained["flow"], explained["state"], explained["backend"]), (1, "established", "portal-1"))
        self.assertEqual((explained["nat_address"], explained["nat_port"]), (rig.NAT, nat_port))
        self.assertEqual(explained["next_hop"]["mac"], rig.SERVER_MAC)
        wait_for("the service's counters", lambda: telemetry(self.set.run_dir, "/portico/services")["0"]["new_flows"] >= 1)
        return dataplane

    def test_af_packet_ports(self):
        self.exercise(table(**AF_PACKET))

    def test_af_xdp_ports(self):
        self.exercise(table())

    def test_af_xdp_ports_leave_vlan_tags_in_frames(self):
        rig.run("ethtool", "-K", "wan0", "rxvlan", "on")
        dataplane = self.running(table())
        features = subprocess.run(["ethtool", "-k", "wan0"], capture_output=True, text=True, check=True).stdout
        self.assertIn("rx-vlan-offload: off", features)
        self.assertIn("rx-vlan-hw-parse", dataplane.messages())

    def test_polling_workers(self):
        self.exercise(table(**AF_PACKET, extra="idle poll"))

    def test_huge_pages(self):
        self.exercise(table(extra="huge-pages on"))

    def test_leaves_what_it_is_not_asked_for_to_the_kernel(self):
        self.running(table())
        self.set.connect()
        rig.run("ip", "address", "add", "198.18.0.99/24", "dev", "wan0")
        self.addCleanup(rig.run, "ip", "address", "flush", "dev", "wan0")
        ping = arp_request("198.18.0.99")
        self.set.client.send(ping)
        wait_for("the kernel's ARP reply", lambda: self.arp_reply_came(ping))

    def arp_reply_came(self, again):
        self.set.client.socket.settimeout(0.5)
        try:
            frame, source = self.set.client.socket.recvfrom(2048)
        except TimeoutError:
            self.set.client.send(again)
            return False
        return source[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02"


def arp_request(target):
    mac = bytes.fromhex(rig.CLIENT_MAC.replace(":", ""))
    return (b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac
            + socket.inet_aton(rig.CLIENT) + bytes(6) + socket.inet_aton(target))


class Adopts(DataplaneTest):
    def test_a_new_service_while_running(self):
        dataplane = self.running(table())
        self.set.connect()
        dataplane.adopted(self.set.publisher.publish(table(extra=f"listen web {rig.VIP} 8080")))

        def syn():
            self.set.client.send(rig.tcp_frame(rig.CLIENT, 5000, rig.VIP, 8080, rig.SYN, (rig.WAN_MAC, rig.CLIENT_MAC)))

        syn()
        self.set.server.receive(lambda s: s.target_port == 8080 and s.flags == rig.SYN, again=syn)

    def test_not_a_corrupted_table_and_goes_on_forwarding(self):
        dataplane = self.running(table())
        good = feedback(self.set.run_dir)["adopted_generation"]
        # The second generation's bytes are broken between writing and reading: stopped meanwhile, the dataplane
        # sees only the broken ones.
        dataplane.process.send_signal(signal.SIGSTOP)
        bad = self.set.publisher.publish(table(extra=f"listen web {rig.VIP} 8081"))
        path = Path(self.set.run_dir) / "table"
        content = bytearray(path.read_bytes())
        at = content.find(struct.pack("<H", 8081) + b"\0\0")
        self.assertGreater(at, 0)
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(struct.pack("<H", 8082))
        dataplane.process.send_signal(signal.SIGCONT)
        wait_for("the refusal", lambda: feedback(self.set.run_dir)["refused_count"] == 1)
        seen = feedback(self.set.run_dir)
        self.assertEqual((seen["refused_generation"], seen["refused_reason"]), (bad, rig.REASON_BAD_CHECKSUM))
        self.assertEqual(seen["adopted_generation"], good)
        dataplane.says("the last good one stays in use")
        self.set.connect()

    def test_the_rest_of_a_table_whose_start_settings_changed(self):
        dataplane = self.running(table(**AF_PACKET))
        dataplane.adopted(self.set.publisher.publish(table(**AF_PACKET, extra="flows 9999")))
        seen = feedback(self.set.run_dir)
        self.assertEqual(seen["refused_reason"], rig.REASON_NEEDS_RESTART)
        self.assertIn("flows", seen["refused_text"])
        self.set.connect()
        dataplane.adopted(self.set.publisher.publish(table(**AF_PACKET)))
        self.assertEqual(feedback(self.set.run_dir)["refused_reason"], 0)

    def test_not_ports_in_another_order(self):
        self.running(table(**AF_PACKET))
        swapped = self.set.publisher.publish(table(wan=AF_PACKET["lan"], lan=AF_PACKET["wan"]))
        wait_for("the refusal", lambda: feedback(self.set.run_dir)["refused_generation"] == swapped)
        self.set.connect()

    def test_asks_control_to_resolve_a_neighbour(self):
        lines = table(**AF_PACKET).replace(f"next-hop {rig.SERVER} {rig.SERVER_MAC}", f"next-hop {rig.SERVER} -")
        self.running(lines)
        syn = rig.tcp_frame(rig.CLIENT, 5000, rig.VIP, 80, rig.SYN, (rig.WAN_MAC, rig.CLIENT_MAC))

        def asked():
            self.set.client.send(syn)
            wanted = telemetry(self.set.run_dir, "/portico/resolve")
            return any(entry["address"] == rig.SERVER for entry in wanted.values())

        wait_for("the resolve request", asked)
        wait_for("packets that waited in vain",
                 lambda: telemetry(self.set.run_dir, "/portico/drops")["next_hop_unresolved"] > 0)


class Survives(DataplaneTest):
    def test_the_death_of_control_and_of_its_file(self):
        dataplane = self.running(table())
        self.set.publisher.kill()
        self.set.connect()
        os.unlink(Path(self.set.run_dir) / "table")
        self.set.connect()
        self.assertIsNone(dataplane.process.poll())
        self.set.publisher = rig.Publisher(self.set.run_dir)
        dataplane.adopted(self.set.publisher.publish(table(extra=f"listen web {rig.VIP} 81")))
        self.set.connect()

    def test_what_others_do_to_the_run_directory(self):
        dataplane = self.running(table(**AF_PACKET))
        run_dir = Path(self.set.run_dir)

        def wipe():
            for entry in run_dir.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

        damages = {f"{what} {name}": damage for name in ("table", "feedback") for what, damage in (
            ("truncate", lambda name=name: os.truncate(run_dir / name, 0)),
            ("remove", lambda name=name: (run_dir / name).unlink()),
            ("overwrite", lambda name=name: overwrite(run_dir / name)))} | {"wipe": wipe}
        for number, (what, damage) in enumerate(damages.items()):
            with self.subTest(damage=what):
                damage()
                self.set.connect()
                self.assertIsNone(self.set.publisher.process.poll())
                dataplane.adopted(self.set.publisher.publish(table(**AF_PACKET, extra=f"listen web {rig.VIP} {81 + number}")))
                self.set.connect()

    def test_the_loss_of_its_telemetry_socket(self):
        dataplane = self.running(IN_MEMORY)
        run_dir = Path(self.set.run_dir)
        for what in ("dpdk", "telemetry", "dpdk"):
            with self.subTest(removed=what):
                before = telemetry(run_dir, "/portico/status")
                if what == "dpdk":
                    shutil.rmtree(run_dir / what)
                else:
                    (run_dir / what).unlink()
                wait_for("the socket to come back", (run_dir / "telemetry").exists)
                for _ in range(3):
                    self.assertEqual(telemetry(run_dir, "/portico/status")["pid"], before["pid"])
                made = (run_dir / "telemetry").resolve()
                self.assertEqual((made.parent.stat().st_mode & 0o777, made.stat().st_mode & 0o022), (0o700, 0))
        self.assertEqual(dataplane.stop(), 0)
        self.assertFalse((run_dir / "telemetry").exists())

    def test_its_own_death_and_starts_again_at_once(self):
        for attempt in range(3):
            with self.subTest(attempt=attempt):
                dataplane = self.running(table())
                self.set.connect()
                dataplane.stop(signal.SIGKILL)

    def test_sighup(self):
        dataplane = self.running(table(**AF_PACKET))
        dataplane.process.send_signal(signal.SIGHUP)
        self.set.connect()
        self.assertEqual(dataplane.stop(signal.SIGINT), 0)

    def test_a_clean_stop_takes_the_steering_program_off(self):
        dataplane = self.running(table())
        self.assertIn("prog/xdp", link("wan0"))
        self.assertEqual(dataplane.stop(), 0)
        self.assertNotIn("prog/xdp", link("wan0"))

    def test_nonsense_on_the_telemetry_socket(self):
        dataplane = self.running(IN_MEMORY)
        for nonsense in ("", ",", ",,,,,,", "x" * 900, "%n%s,1,2,3", "198.18.0.1,99999,198.18.0.10,80", "1,2,3,4\n"):
            answer = telemetry(self.set.run_dir, "/portico/explain," + nonsense)
            self.assertIn("error", answer or {"error": "refused by DPDK"}, nonsense)
        for command in ("/portico/services,-1", "/portico/workers,1e9", "/portico/backends,18446744073709551616"):
            self.assertIn("error", telemetry(self.set.run_dir, command))
        self.assertEqual(telemetry(self.set.run_dir, "/portico/services,18446744073709551615"), {"count": 1})
        self.assertEqual(dataplane.stop(), 0)


def overwrite(path):
    with open(path, "r+b") as file:
        file.write(os.urandom(50000))


def link(interface):
    return subprocess.run(["ip", "-d", "link", "show", interface], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    rig.require_root_and_own_network()
    rig.make_network()
    unittest.main(verbosity=2)
