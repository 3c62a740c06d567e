# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# An appliance without hardware: an emulated PC whose NICs are behind an emulated IOMMU, so that DPDK drives them through
# vfio-pci as it would real ones. Debian's own kernel; the host's file system.
#
# Needs WORK (a directory of ours) and NS (a name for what we make).

qemu_pid=

die() { echo "nic: $*" >&2; exit 1; }

kernel_version() {
  local newest
  newest=$(find /boot -maxdepth 1 -name 'vmlinuz-*' | sort -V | tail -n 1)
  [ -n "$newest" ] || die "there is no kernel in /boot: apt-get install linux-image-amd64"
  echo "${newest#/boot/vmlinuz-}"
}

# What the machine needs to reach the host's file system, in an order in which insmod takes it.
boot_modules() { # KERNEL
  local module
  for module in virtio_pci 9pnet_virtio 9p; do
    modprobe --set-version "$1" --ignore-install --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ {print $2}'
}

make_initramfs() { # KERNEL
  local root=$WORK/initramfs module
  mkdir -p "$root"/{bin,proc,sys,dev,root,lib}
  cp /bin/busybox "$root/bin/busybox"
  cp tests/nic/guest-init "$root/init"
  chmod 755 "$root/init"
  while read -r module; do
    cp "$module" "$root/lib/"
    echo "/lib/$(basename "$module")"
  done < <(boot_modules "$1") >"$root/modules"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$WORK/initramfs.cpio"
}

# machine_start MAC CPUS DEVICE QUEUES: one NIC of a qemu device, connected to the tap `nic0` of the switch's namespace. In
# the machine it is NIC_DRIVER's, by default vfio-pci's.
machine_start() {
  local mac=$1 cpus=$2 device=$3 queues=$4
  local netdev=tap,id=net0,ifname=nic0,script=no,downscript=no,vhost=off
  if [ "$queues" -gt 1 ]; then netdev+=,queues=$queues; fi
  machine_boot "$cpus" -netdev "$netdev" -device "$device,netdev=net0,mac=$mac,romfile="
}

# machine_boot CPUS WORDS...: the words are qemu's, about NICs.
machine_boot() {
  local cpus=$1 version
  shift
  version=$(kernel_version)
  mkdir -p "$WORK/share"
  rm -f "$WORK/share/"*
  cp tests/nic/guest-main "$WORK/share/"
  [ -e "$WORK/initramfs.cpio" ] || make_initramfs "$version"
  ip netns exec "$NS-switch" qemu-system-x86_64 \
    -accel "${PORTICO_QEMU_ACCEL:-tcg,thread=multi}" -cpu "${PORTICO_QEMU_CPU:-max}" -smp "$cpus" -m 1536 \
    -machine q35,kernel-irqchip=split -device intel-iommu,intremap=off,caching-mode=on \
    -nodefaults -nographic -no-reboot -serial "file:$WORK/console" \
    -kernel "/boot/vmlinuz-$version" -initrd "$WORK/initramfs.cpio" \
    -append "console=ttyS0 quiet panic=-1 intel_iommu=on iommu=pt no_timer_check mitigations=off HUGE_PAGES=${HUGE_PAGES:-200} NIC_DRIVER=${NIC_DRIVER:-vfio-pci}" \
    -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
    -virtfs "local,path=$WORK/share,mount_tag=work,security_model=none" \
    "$@" </dev/null >"$WORK/qemu.log" 2>&1 &
  qemu_pid=$!
  echo 0 >"$WORK/requests"
  wait_until 120 "the emulated machine boots" test -e "$WORK/share/ready"
}

machine_stop() {
  [ -n "$qemu_pid" ] || return 0
  kill "$qemu_pid" 2>/dev/null || true
  wait "$qemu_pid" 2>/dev/null || true
  qemu_pid=
}

# inside COMMANDS: runs them in the machine; prints what they print; their exit status.
inside() {
  local number
  number=$(cat "$WORK/requests")  # a file, since a subshell may ask
  echo $((number + 1)) >"$WORK/requests"
  printf '%s\n' "$1" >"$WORK/share/$number.part"
  mv "$WORK/share/$number.part" "$WORK/share/$number.request"
  wait_until "${2:-60}" "the machine answers to: ${1%%$'\n'*}" test -e "$WORK/share/$number.status" || return 1
  cat "$WORK/share/$number.output"
  return "$(cat "$WORK/share/$number.status")"
}

# wait_until SECONDS WHAT COMMAND...: until it succeeds.
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "nic: waited in vain: $what" >&2
      return 1
    fi
    if [ -n "$qemu_pid" ] && ! kill -0 "$qemu_pid" 2>/dev/null; then
      echo "nic: the emulated machine is gone while waiting: $what" >&2
      tail -n 20 "$WORK/qemu.log" "$WORK/console" >&2
      return 1
    fi
    sleep 0.1
  done
}
