#!/bin/bash
# Tries what needs cgroup v2 with all controllers, and a systemd as first process, in a small virtual machine.
# Usage: tests/vm/run.sh [PART...], after a build; inside.sh lists the parts.
#
# The machine sees the files of this one, read-only below a layer in its memory, so that programs run there as they were
# built here. Written is only in target/vm. The kernel is Debian's, unpacked and not installed. VM_MINUTES=N: the longest.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target} place=${CARGO_TARGET_DIR:-$PWD/target}/vm
out=$place/out modules=$place/kernel/lib/modules
say() { echo "vm: $*" >&2; }

need() {
	local missing=() as=
	for pair in /usr/bin/qemu-system-x86_64:qemu-system-x86 /usr/bin/cpio:cpio /sbin/depmod:kmod \
		/lib/systemd/systemd:systemd /usr/share/doc/busybox-static:busybox-static; do
		[ -e "${pair%:*}" ] || missing+=("${pair#*:}")
	done
	[ ${#missing[@]} != 0 ] || return 0
	say "installing ${missing[*]}"
	[ "$(id -u)" = 0 ] || as='sudo -n'
	$as apt-get update -qq
	$as env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

kernel() {
	local name
	name=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ { print $2; exit }')
	say "unpacking $name"
	rm -rf "$place/deb" "$place/new"
	mkdir -p "$place/deb"
	(cd "$place/deb" && apt-get download -qq "$name")
	dpkg -x "$place"/deb/*.deb "$place/new"
	/sbin/depmod -b "$place/new" "$(ls "$place/new/lib/modules")"
	mv "$place/new" "$place/kernel"
}

# The first file system of the machine: drivers, and a script that puts its root together.
first_files() {
	local tree=$place/first
	rm -rf "$tree"
	mkdir -p "$tree"/{bin,proc,sys,dev,lower,layer,new}
	cp /bin/busybox "$tree/bin/"
	/sbin/modprobe -d "$place/kernel" -S "$(ls "$modules")" -a -D virtio_pci 9pnet_virtio 9p overlay virtio_rng |
		awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
		cp "$module" "$tree/$((number = ${number:-100} + 1)).ko"
	done
	cat >"$tree/init" <<-'INIT'
	#!/bin/busybox sh
	/bin/busybox --install -s /bin
	export PATH=/bin
	mount -t proc proc /proc; mount -t devtmpfs dev /dev
	for word in $(cat /proc/cmdline); do case $word in vm_*=*) export "$word";; esac; done
	[ "${vm_probe:-}" != 1 ] || { echo vm-probe-ok; poweroff -f; }
	for module in /*.ko; do insmod $module; done
	nine=trans=virtio,version=9p2000.L,msize=524288
	mount -t 9p -o ro,cache=loose,$nine root /lower
	mount -t tmpfs -o size=80% layer /layer
	mkdir /layer/up /layer/work
	mount -t overlay -o lowerdir=/lower,upperdir=/layer/up,workdir=/layer/work overlay /new
	mkdir -p /new/vm
	mount -t 9p -o cache=none,$nine out /new/vm
	for folder in run tmp var/tmp; do mount -t tmpfs -o mode=1777 tmp /new/$folder; done
	rm -f /new/.dockerenv # else systemd takes the machine for a container
	units=/new/run/systemd/system
	mkdir -p $units
	printf '[Unit]\nRequires=basic.target vm.service\nWants=dbus.service systemd-logind.service\n' >$units/vm.target
	cat >$units/vm.service <<EOF
	[Unit]
	After=basic.target systemd-logind.service
	[Service]
	Type=oneshot
	ExecStart=/bin/bash $vm_here/tests/vm/inside.sh
	ExecStopPost=/bin/systemctl poweroff --force --force
	StandardOutput=file:/vm/output
	StandardError=file:/vm/output
	EOF
	umount /proc; mount --move /dev /new/dev
	exec switch_root /new /lib/systemd/systemd
	INIT
	chmod +x "$tree/init"
	(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1 >"$place/first.gz")
}

machine() { # accelerator, seconds, words of the kernel's command line
	timeout "$2" qemu-system-x86_64 -M q35 -accel "$1" -cpu max -smp "$(nproc)" -m 4G -display none -nodefaults \
		-serial stdio -no-reboot -kernel "$place"/kernel/boot/vmlinuz-* -initrd "$place/first.gz" -device virtio-rng-pci \
		-virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
		-virtfs "local,path=$out,mount_tag=out,security_model=none" \
		-append "console=ttyS0 panic=-1 quiet ${*:3}" </dev/null
}

need
rm -rf "$out"
mkdir -p "$out"
[ -d "$place/kernel" ] || kernel
first_files
accel=kvm
[ -w /dev/kvm ] && machine kvm 15 vm_probe=1 2>&1 | grep -q vm-probe-ok || accel=tcg,thread=multi
say "accelerator: $accel"
printf 'repo=%q target=%q\n' "$PWD" "$target" >"$out/env"
printf 'parts=(%s)\n' "${*:-user tests supervised unit}" >>"$out/env"
machine "$accel" $((${VM_MINUTES:-60} * 60)) systemd.unit=vm.target "vm_here=$PWD" >"$out/console" 2>&1 || true
cat "$out/output"
grep -qx 'vm: passed' "$out/output" || { say "failed; see $out"; exit 1; }
